GRANT USAGE ON SCHEMA monitoring TO monitor, publisher;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA monitoring TO monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA monitoring TO publisher;
-- A person suspends a watch and changes a topic, no process does.
REVOKE INSERT, UPDATE ON monitoring.suspensions, monitoring.topic_changes FROM monitor;
-- Reconciliations run in Dagster, as publisher: they add to the ledger and change its entries, and take nothing away.
-- A run raises the signal of a gap in its own transaction, and clears it when the gap is gone.
GRANT USAGE ON SCHEMA reconciliation TO publisher, monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA reconciliation TO publisher, monitor;
GRANT INSERT, UPDATE ON reconciliation.runs, reconciliation.ledger, reconciliation.differences TO publisher;
GRANT INSERT, UPDATE (cleared_at) ON monitoring.signals TO publisher;
