-- Open differences of some reconciliations that nothing but an incident explains: how many, what is at stake, and the
-- hours of their rows.
SELECT reconciliation, kind, currency, count(*) AS rows, sum(money_at_stake) AS money,
       array_agg(DISTINCT date_trunc('hour', newest_at, 'UTC')) AS hours
FROM reconciliation.ledger
WHERE reconciliation = ANY (CAST(:reconciliations AS text[])) AND resolved_at IS NULL
  AND explanation IS DISTINCT FROM 'in_flight'
GROUP BY reconciliation, kind, currency
ORDER BY reconciliation, kind, currency
