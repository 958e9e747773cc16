SELECT
    u.position,
    o.event_id::text,
    o.topic,
    o.event_type,
    o.correlation_id::text,
    o.value,
    (extract(epoch FROM o.created_at) * 1000000)::bigint
FROM outbox_unpublished AS u
JOIN outbox AS o ON o.event_id = u.event_id
WHERE u.lane = %s
ORDER BY u.position
LIMIT %s
