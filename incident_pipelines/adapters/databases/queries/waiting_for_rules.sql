-- Windows that one of the rules kept rows, or all of it, out of.
SELECT contract AS dataset, window_start FROM landing.quarantine
WHERE contract = :dataset AND reasons && CAST(:rules AS text[])
UNION
SELECT dataset, window_start FROM publication.windows
WHERE dataset = :dataset AND state = 'refused' AND failed_rules && CAST(:rules AS text[])
