-- Dagster works on incidents as publisher: it may add to all of them and change what can change, take nothing away, and
-- neither rewrite a timeline nor what an incident knows of its timeline.
GRANT USAGE ON SCHEMA incidents TO publisher;
GRANT USAGE ON SEQUENCE incidents.numbers TO publisher;
GRANT SELECT ON ALL TABLES IN SCHEMA incidents TO publisher;
GRANT INSERT ON incidents.timeline, incidents.signals TO publisher;
GRANT INSERT (type, cause, severity, state, title, source, datasets, window_start, window_end, began_at, detected_at,
    opened_at, last_signal_at, signals) ON incidents.incidents TO publisher;
GRANT UPDATE (severity, state, datasets, window_start, window_end, began_at, last_signal_at, signals, revision,
    commander, acknowledged_at, acknowledged_by, contained_at, recovered_at, resolved_at, resolution, reviewed_at,
    stopped_at, stopped_by, stopped_because) ON incidents.incidents TO publisher;
GRANT INSERT (incident_id, digest, revision, body, made_at, made_by) ON incidents.plans TO publisher;
GRANT INSERT, UPDATE (state, attempts, outcome, outcome_at, undo, undone_at, undone_by) ON incidents.actions TO publisher;
GRANT INSERT, UPDATE (text, owner, due, done_at, done_by) ON incidents.action_items TO publisher;
GRANT INSERT ON incidents.findings, incidents.capacities, incidents.budgets TO publisher;
GRANT UPDATE (taken, replayed, failed) ON incidents.budgets TO publisher;
GRANT INSERT, UPDATE (incident_id, state, attempts, intended_at, intended_by, outcome, outcome_at) ON incidents.salvaged
    TO publisher;
GRANT UPDATE (free_at) ON incidents.pace TO publisher;
GRANT USAGE ON SCHEMA incidents, reconciliation, monitoring TO planner;
GRANT SELECT ON ALL TABLES IN SCHEMA incidents, reconciliation, monitoring TO planner;
GRANT INSERT, UPDATE (kind, basis, title, body, made_at, path, delivered, sent_at, addresses, attempts, attempt_after,
    error) ON incidents.reports TO publisher;
