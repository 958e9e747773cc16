-- Events carry no money of their own: what they tell of is counted where it is.
SELECT o.event_id AS item, o.written_at AS since, CAST(NULL AS numeric) AS amount, CAST(NULL AS text) AS currency
FROM public.outbox_unpublished u
JOIN public.outbox o ON o.event_id = u.event_id
