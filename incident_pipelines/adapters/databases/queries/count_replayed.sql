UPDATE incidents.budgets SET replayed = replayed + :replayed, failed = failed + :failed
WHERE plan_id = :plan_id RETURNING replayed, failed
