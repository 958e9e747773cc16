-- What was landed of some datasets from their topics since an hour began.
SELECT coalesce(sum(h.rows), 0)::bigint AS rows, coalesce(sum(h.dead_letters), 0)::bigint AS dead_letters
FROM landing.hours h JOIN landing.origins o USING (origin_id)
WHERE h.contract = ANY (CAST(:datasets AS text[])) AND o.kind = 'topic' AND h.changed_at >= :since
