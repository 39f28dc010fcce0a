-- The publication $1, and what it does with the table $2.$3. Reads only; no locks. Row filters and
-- column lists came with PostgreSQL 15, hence the way through JSON.
SELECT
    p.pubinsert AS publishes_insert,
    p.pubviaroot AS via_root,
    t.pubname IS NOT NULL AS is_covered,
    pg_catalog.to_jsonb(t) ->> 'rowfilter' AS row_filter,
    ARRAY(
        SELECT pg_catalog.jsonb_array_elements_text(pg_catalog.to_jsonb(t) -> 'attnames')
        WHERE pg_catalog.jsonb_typeof(pg_catalog.to_jsonb(t) -> 'attnames') = 'array'
    ) AS columns,
    EXISTS (
        SELECT FROM pg_catalog.pg_publication_rel AS r
        JOIN pg_catalog.pg_class AS c ON c.oid = r.prrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE r.prpubid = p.oid AND n.nspname = $2 AND c.relname = $3
    ) AS is_listed
FROM pg_catalog.pg_publication AS p
LEFT JOIN pg_catalog.pg_publication_tables AS t
    ON t.pubname = p.pubname AND t.schemaname = $2 AND t.tablename = $3
WHERE p.pubname = $1
