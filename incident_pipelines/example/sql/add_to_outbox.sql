WITH added AS (
    INSERT INTO outbox (event_id, topic, event_type, correlation_id, value, created_at)
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::uuid[], %s::bytea[], %s::timestamptz[])
    ON CONFLICT (event_id) DO NOTHING
    RETURNING event_id
)
INSERT INTO outbox_unpublished (lane, event_id)
SELECT 'live', a.event_id
FROM unnest(%s::uuid[]) WITH ORDINALITY AS a (event_id, number)
WHERE a.event_id IN (SELECT event_id FROM added)
ORDER BY a.number
RETURNING event_id::text
