-- Raw tables of which so many rows have changed that their statistics no longer hold; -1 rows: there are none yet.
SELECT m.dataset
FROM unnest(CAST(:datasets AS text[]), CAST(:changed AS bigint[])) AS m (dataset, changed)
JOIN pg_class c ON c.oid = to_regclass(format('raw.%I', m.dataset))
WHERE m.changed > 1000 + greatest(c.reltuples, 0) / 10
ORDER BY m.dataset
