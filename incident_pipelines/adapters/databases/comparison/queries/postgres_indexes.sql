-- Valid indexes over all rows of a relation: whether it is the primary key, its columns in order.
SELECT i.indisprimary, ARRAY(SELECT a.attname::text
                             FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
                             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                             ORDER BY k.place)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid = %(relation)s::oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND (m.amname = 'btree' OR i.indisprimary)
