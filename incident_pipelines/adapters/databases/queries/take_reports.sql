SELECT pg_try_advisory_xact_lock(hashtextextended('incidents.reports', 0))
