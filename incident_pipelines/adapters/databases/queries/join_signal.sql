INSERT INTO incidents.signals (signal_id, incident_id, joined_at) VALUES (:signal_id, :incident_id, :joined_at)
