-- The indexes of the outbox $1.$2: their key columns in order, and every column that one hangs on,
-- be it by its key, an expression or its predicate. Reads only; no locks.
SELECT
    n.nspname::text AS schema_name,
    i.relname::text AS index_name,
    m.amname::text AS method,
    x.indisvalid AS is_valid,
    x.indexprs IS NOT NULL AS has_expression,
    k.conname::text AS constraint_name,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY AS key (attnum, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = key.attnum
        ORDER BY key.place
    ) AS keys,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND (
            a.attnum = ANY (x.indkey::int2[]) OR EXISTS (
                SELECT FROM pg_catalog.pg_depend AS d
                WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND d.objid = i.oid AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
            )
        )
    ) AS columns
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index AS x ON x.indrelid = c.oid
JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_am AS m ON m.oid = i.relam
LEFT JOIN pg_catalog.pg_constraint AS k ON k.conindid = i.oid AND k.contype IN ('p', 'u', 'x')
    AND k.conrelid = c.oid
WHERE n.nspname = $1 AND c.relname = $2
ORDER BY i.relname
