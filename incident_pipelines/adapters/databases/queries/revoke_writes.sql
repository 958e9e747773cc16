SELECT protection.revoke_writes(:key, :role, :table_name) AS outcome
