-- The columns of the outbox $1.$2, what this role may do with each and with the table, and how the
-- table is kept. No row: no such table. Reads only; no locks.
SELECT
    a.attname::text AS column_name,
    a.atttypid AS type_oid,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name,
    a.attgenerated <> '' AS is_generated,
    pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') AS may_select,
    pg_catalog.has_column_privilege(c.oid, a.attnum, 'UPDATE') AS may_update,
    pg_catalog.has_table_privilege(c.oid, 'INSERT') AS may_insert,
    pg_catalog.has_table_privilege(c.oid, 'DELETE') AS may_delete,
    pg_catalog.pg_has_role(c.relowner, 'USAGE') AS is_owner,
    pg_catalog.row_security_active(c.oid) AS has_row_security,
    c.relkind = 'p' AS is_partitioned,
    c.relpersistence = 'u' AS is_unlogged
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
ORDER BY a.attnum
