SELECT protection.revoke_access(:key, CAST(:table_names AS text[])) AS outcome
