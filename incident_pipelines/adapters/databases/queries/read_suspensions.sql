SELECT suspension_id, watch, began_at, until, by, because
FROM monitoring.suspensions
WHERE ended_at IS NULL AND until > :now
ORDER BY watch
