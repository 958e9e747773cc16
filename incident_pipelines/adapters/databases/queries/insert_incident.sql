INSERT INTO incidents.incidents (type, cause, severity, state, title, source, datasets, window_start, window_end,
    began_at, detected_at, opened_at, last_signal_at, signals)
VALUES (:type, :cause, :severity, 'detected', :title, :source, CAST(:datasets AS text[]), :window_start, :window_end,
    :began_at, :detected_at, :opened_at, CAST(:last_signal_at AS timestamptz), 0)
RETURNING *
