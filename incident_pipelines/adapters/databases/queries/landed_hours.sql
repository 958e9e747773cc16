-- How much of the log lies in some hours of some datasets.
SELECT h.contract AS dataset, h.hour AS window_start, sum(h.rows)::bigint AS rows
FROM landing.hours h
WHERE h.contract = ANY (CAST(:datasets AS text[])) AND h.hour = ANY (CAST(:hours AS timestamptz[]))
GROUP BY 1, 2
