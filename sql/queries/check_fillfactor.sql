-- How full the pages are filled of the outbox $1.$2, or of each of its partitions. Reads only; no
-- locks to speak of.
SELECT
    n.nspname::text AS schema_name,
    c.relname::text AS table_name,
    COALESCE((
        SELECT o.option_value::int4
        FROM pg_catalog.pg_options_to_table(c.reloptions) AS o
        WHERE o.option_name = 'fillfactor'
    ), 100) AS fillfactor
FROM pg_catalog.pg_class AS root
JOIN pg_catalog.pg_namespace AS of_root ON of_root.oid = root.relnamespace
CROSS JOIN LATERAL (
    SELECT root.oid AS relid WHERE root.relkind = 'r'
    UNION ALL
    SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(root.oid) AS p
    WHERE root.relkind = 'p' AND p.isleaf
) AS leaf
JOIN pg_catalog.pg_class AS c ON c.oid = leaf.relid AND c.relkind = 'r'
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE of_root.nspname = $1 AND root.relname = $2
ORDER BY c.relname
