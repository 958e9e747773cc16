-- Who changed a table since some instant and did not say that a window was being published; the latest first.
SELECT statement, rows, user_name, application_name, host(client_address) AS client_address,
       to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS changed_at
FROM protection.changes
WHERE table_name = :table_name AND publishing IS NULL AND changed_at >= :since
ORDER BY change_id DESC
LIMIT 5
