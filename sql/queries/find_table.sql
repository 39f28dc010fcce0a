-- The columns of the outbox $1.$2 with their types, and what this role may do with it. No row: no
-- such table. Reads only; no locks.
SELECT
    a.attname::text AS column_name,
    a.atttypid AS type_oid,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name,
    a.attgenerated <> '' AS is_generated,
    c.relkind = 'p' AS is_partitioned,
    pg_catalog.has_any_column_privilege(c.oid, 'UPDATE') AS may_update,
    pg_catalog.has_column_privilege(c.oid, a.attnum, 'UPDATE') AS may_update_column,
    pg_catalog.has_table_privilege(c.oid, 'DELETE') AS may_delete
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
ORDER BY a.attnum
