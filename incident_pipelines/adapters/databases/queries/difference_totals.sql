-- What is open, by kind, explanation and currency.
SELECT kind, explanation, coalesce(currency, '') AS currency, in_scope, count(*) AS differences,
       coalesce(sum(money_at_stake), 0) AS money
FROM reconciliation.ledger
WHERE reconciliation = :reconciliation AND resolved_at IS NULL
GROUP BY kind, explanation, coalesce(currency, ''), in_scope
