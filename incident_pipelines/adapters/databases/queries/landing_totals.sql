-- What has landed of each dataset, over all hours.
SELECT contract,
       sum(rows)::bigint AS rows,
       sum(dead_letters)::bigint AS dead_letters,
       count(DISTINCT origin_id) AS origins,
       max(changed_at) AS last_landed_at
FROM landing.hours
GROUP BY contract
