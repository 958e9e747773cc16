UPDATE incidents.plans SET approved_at = :now, approved_by = :actor WHERE plan_id = :plan_id AND approved_at IS NULL
