-- A publication by its name ($1), and what it does with the table $2.$3. Reads only; no locks.
-- pg_publication_tables names the root of a partitioned table only with publish_via_partition_root.
-- The row filter is read through JSON because the column came with PostgreSQL 15.
SELECT
    p.pubinsert AS publishes_insert,
    p.pubviaroot AS via_root,
    t.pubname IS NOT NULL AS is_covered,
    pg_catalog.to_jsonb(t) ->> 'rowfilter' AS row_filter,
    EXISTS (
        SELECT FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $2 AND c.relname = $3 AND c.relkind = 'p'
    ) AS is_partitioned
FROM pg_catalog.pg_publication AS p
LEFT JOIN pg_catalog.pg_publication_tables AS t
    ON t.pubname = p.pubname AND t.schemaname = $2 AND t.tablename = $3
WHERE p.pubname = $1
