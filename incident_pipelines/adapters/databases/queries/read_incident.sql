SELECT * FROM incidents.incidents WHERE incident_id = :incident_id
