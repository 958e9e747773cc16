INSERT INTO landing.facts (kind, dataset, window_start, window_end, detail)
VALUES ('duplicate_events', :dataset, :window_start, :window_end, CAST(:detail AS jsonb))
