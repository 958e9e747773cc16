SELECT body FROM incidents.findings WHERE incident_id = :incident_id AND kind = :kind ORDER BY finding_id DESC LIMIT 1
