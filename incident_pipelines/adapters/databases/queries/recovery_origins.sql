-- What was appended on an incident's behalf, by dataset.
SELECT o.contract, sum(h.rows) AS rows, sum(h.dead_letters) AS dead_letters
FROM landing.origins o JOIN landing.hours h USING (origin_id)
WHERE o.kind = 'recovery' AND o.note = :incident_id
GROUP BY o.contract
