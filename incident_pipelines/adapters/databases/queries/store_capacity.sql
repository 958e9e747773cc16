INSERT INTO incidents.capacities (measured_at, events_per_second, how) VALUES (:measured_at, :events_per_second, :how)
ON CONFLICT DO NOTHING
