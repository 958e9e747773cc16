-- A signal has joined; the incident's row is locked by whoever put it in.
UPDATE incidents.incidents SET
    datasets = CAST(:datasets AS text[]), window_start = :window_start, window_end = :window_end,
    began_at = :began_at, severity = :severity, signals = :signals, last_signal_at = :last_signal_at,
    revision = :revision
WHERE incident_id = :incident_id
