DELETE FROM outbox WHERE event_id IN (
    SELECT o.event_id
    FROM outbox AS o
    WHERE o.written_at < clock_timestamp() - %s * interval '1 day'
        AND NOT EXISTS (SELECT FROM outbox_unpublished AS u WHERE u.event_id = o.event_id)
    LIMIT %s
)
