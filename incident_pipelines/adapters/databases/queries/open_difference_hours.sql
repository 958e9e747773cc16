-- Open differences of some reconciliations, but for those on their way and those that another incident explains: how
-- many, what is at stake, the hours that their rows belong to on either side, and those of their last change.
SELECT reconciliation, kind, currency, count(*) AS rows, sum(money_at_stake) AS money,
       array_agg(DISTINCT date_trunc('hour', coalesce(source_time, target_time, newest_at), 'UTC'))
       || array_agg(DISTINCT date_trunc('hour', coalesce(target_time, source_time, newest_at), 'UTC')) AS hours,
       array_agg(DISTINCT date_trunc('hour', newest_at, 'UTC')) AS changed_hours
FROM reconciliation.ledger
WHERE reconciliation = ANY (CAST(:reconciliations AS text[])) AND resolved_at IS NULL
  AND (explanation IS NULL OR (explanation = 'incident' AND incident_id = :incident_id))
GROUP BY reconciliation, kind, currency
ORDER BY reconciliation, kind, currency
