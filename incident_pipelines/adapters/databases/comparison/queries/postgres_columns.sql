-- Name and kind of types, and of the columns of a relation (or of none) those that cannot be NULL.
SELECT t.oid::int8, format_type(t.oid, NULL), t.typtype::text,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = %(relation)s::oid AND a.attnum > 0 AND a.attnotnull)
FROM pg_type t
WHERE t.oid = ANY (%(types)s::oid[])
