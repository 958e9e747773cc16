-- Open differences by how long they have been known.
SELECT kind, coalesce(explanation, 'unexplained') AS explanation,
       width_bucket(extract(epoch FROM CAST(:as_of AS timestamptz) - first_seen),
                    CAST(:bounds AS double precision[])) AS bucket, count(*) AS differences
FROM reconciliation.ledger
WHERE reconciliation = :reconciliation AND resolved_at IS NULL
GROUP BY 1, 2, 3
