-- What the replays of an incident have left open, in the order in which they were done.
SELECT body FROM incidents.findings WHERE incident_id = :incident_id AND kind = 'replay' ORDER BY finding_id
