-- What landed in a window, by origin and partition.
SELECT origin_id, partition, sum(version)::bigint AS version, sum(dead_letters)::bigint AS dead_letters,
       min(first_position) AS first_position, max(last_position) AS last_position
FROM landing.hours
WHERE contract = :dataset AND hour >= :window_start AND hour < :window_end
GROUP BY origin_id, partition
ORDER BY origin_id, partition
