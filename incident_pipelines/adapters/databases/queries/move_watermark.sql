-- Never back: two extracts may end in any order.
INSERT INTO landing.watermarks AS w (contract, updated_before, read_at) VALUES (:dataset, :updated_before, :read_at)
ON CONFLICT (contract) DO UPDATE SET updated_before = greatest(w.updated_before, EXCLUDED.updated_before),
    read_at = greatest(w.read_at, EXCLUDED.read_at)
