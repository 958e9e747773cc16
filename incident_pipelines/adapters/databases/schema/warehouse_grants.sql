-- lander: appends to the log and moves its offsets, nothing else. publisher: reads the log, appends extracts, writes raw
-- and marts. monitor: reads.
GRANT USAGE ON SCHEMA landing TO lander, publisher, monitor;
GRANT USAGE ON SCHEMA raw, marts, publication TO publisher, monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA landing TO publisher, monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA raw, marts, publication TO monitor;
GRANT SELECT, INSERT ON landing.origins, landing.gaps, landing.facts TO lander;
GRANT SELECT, INSERT, UPDATE ON landing.offsets, landing.hours TO lander;
GRANT INSERT ON landing.origins, landing.facts, landing.chunks TO publisher;
GRANT INSERT, UPDATE ON landing.hours, landing.positions, landing.watermarks TO publisher;
GRANT INSERT, UPDATE, DELETE ON landing.quarantine TO publisher;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA raw, marts, publication TO publisher;
-- For ANALYZE.
GRANT MAINTAIN ON ALL TABLES IN SCHEMA raw TO publisher;
-- A hold is placed and let go of, and never becomes another one.
REVOKE UPDATE ON publication.holds FROM publisher;
-- Nobody writes to protection: its triggers do with the rights of its owner. Containment may take privileges away by key
-- and give back what that key has taken, nothing else.
GRANT USAGE ON SCHEMA protection TO publisher, monitor;
GRANT SELECT ON protection.changes, protection.revocations TO publisher, monitor;
GRANT EXECUTE ON FUNCTION protection.revoke_writes, protection.revoke_access, protection.restore_privileges TO publisher;
-- planner: reads what a recovery is planned from, and nothing else.
GRANT USAGE ON SCHEMA landing, raw, marts, publication TO planner;
GRANT SELECT ON ALL TABLES IN SCHEMA landing, raw, marts, publication TO planner;
