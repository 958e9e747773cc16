INSERT INTO reconciliation.runs (reconciliation, mode, as_of, window_start, window_end, owner)
VALUES (:reconciliation, :mode, :as_of, :window_start, :window_end, :owner)
RETURNING run_id
