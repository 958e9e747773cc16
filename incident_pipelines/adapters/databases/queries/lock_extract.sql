SELECT pg_advisory_xact_lock(hashtextextended('extract ' || :dataset, 0))
