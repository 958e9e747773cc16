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
-- Nobody gets more on protection: its triggers write with the rights of its owner.
GRANT USAGE ON SCHEMA protection TO publisher, monitor;
GRANT SELECT ON protection.changes TO publisher, monitor;
