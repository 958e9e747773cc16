UPDATE incidents.budgets SET taken = taken + :events
WHERE plan_id = :plan_id AND taken + :events <= events_at_most RETURNING taken
