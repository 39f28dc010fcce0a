-- What this role lacks to give messages rows of the outbox $1.$2: INSERT, and USAGE of the sequence
-- that numbers them, where there is one. Reads only; no locks.
SELECT
    pg_catalog.has_table_privilege(c.oid, 'INSERT') AS may_insert,
    CASE
        -- The sequence of an identity column needs no right.
        WHEN a.attidentity = '' AND NOT pg_catalog.has_sequence_privilege(s.name, 'USAGE')
        THEN s.name
    END AS sequence
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a
    ON a.attrelid = c.oid AND a.attname = 'id' AND NOT a.attisdropped
CROSS JOIN LATERAL (
    SELECT pg_catalog.pg_get_serial_sequence(
        pg_catalog.format('%I.%I', n.nspname, c.relname), a.attname
    ) AS name
) AS s
WHERE n.nspname = $1 AND c.relname = $2
