-- Columns of some tables as they are now.
SELECT t.table_name,
       array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod)) AS columns
FROM unnest(CAST(:tables AS text[])) AS t (table_name)
JOIN pg_attribute a ON a.attrelid = to_regclass(t.table_name) AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY 1
