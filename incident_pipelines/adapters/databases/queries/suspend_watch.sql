INSERT INTO monitoring.suspensions (watch, began_at, until, by, because)
VALUES (:watch, :now, :until, :by, :because)
RETURNING suspension_id, watch, began_at, until, by, because
