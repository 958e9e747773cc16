INSERT INTO landing.facts (kind, dataset, window_start, window_end, detail)
VALUES ('window_changed_outside', :dataset, :window_start, :window_end, CAST(:detail AS jsonb))
