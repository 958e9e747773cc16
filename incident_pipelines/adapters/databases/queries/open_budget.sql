INSERT INTO incidents.budgets (plan_id, events_at_most) VALUES (:plan_id, :events_at_most) ON CONFLICT DO NOTHING
