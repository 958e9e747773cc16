-- Where the log of some datasets stands, by origin and partition.
SELECT g.contract || ' ' || p.origin_id || ':' || p.partition AS place, p.next
FROM (SELECT origin_id, partition, next FROM landing.offsets
      UNION ALL
      SELECT origin_id, partition, next FROM landing.positions) p
JOIN landing.origins g USING (origin_id)
WHERE g.contract = ANY (CAST(:datasets AS text[]))
ORDER BY 1
