-- What has become of the table $2.$3 that the publication $1 covers, asked while a line streams:
-- which one bears that name now, what the one with the oid $4 is called by now, and whether the
-- publication is there, covers the table, and names it (else it covers whatever there is). Reads
-- only; no locks.
SELECT
    (
        SELECT c.oid FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $2 AND c.relname = $3
    ) AS table_oid,
    (
        SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.oid = $4
    ) AS former_name,
    EXISTS (SELECT FROM pg_catalog.pg_publication AS p WHERE p.pubname = $1) AS is_there,
    EXISTS (
        SELECT FROM pg_catalog.pg_publication_tables AS t
        WHERE t.pubname = $1 AND t.schemaname = $2 AND t.tablename = $3
    ) AS is_covered,
    EXISTS (
        SELECT FROM pg_catalog.pg_publication_rel AS r
        JOIN pg_catalog.pg_publication AS p ON p.oid = r.prpubid
        JOIN pg_catalog.pg_class AS c ON c.oid = r.prrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE p.pubname = $1 AND n.nspname = $2 AND c.relname = $3
    ) AS is_listed
