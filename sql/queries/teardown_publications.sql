-- The publications whose names begin with $1, what they cover besides the table $2.$3 and its
-- partitions (five names are enough), and whether this role may drop them. Reads only; no locks.
SELECT
    p.pubname::text AS name,
    pg_catalog.pg_get_userbyid(p.pubowner)::text AS owner,
    pg_catalog.pg_has_role(p.pubowner, 'USAGE') AS may_drop,
    p.puballtables AS is_of_all,
    (
        SELECT pg_catalog.string_agg(other.name, ', ')
        FROM (
            SELECT pg_catalog.format('%I.%I', t.schemaname, t.tablename) AS name
            FROM pg_catalog.pg_publication_tables AS t
            JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.schemaname
            JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.tablename
            WHERE t.pubname = p.pubname
                AND NOT (t.schemaname = $2 AND t.tablename = $3)
                AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) AS a (relid)
                    JOIN pg_catalog.pg_class AS root ON root.oid = a.relid
                    JOIN pg_catalog.pg_namespace AS s ON s.oid = root.relnamespace
                    WHERE s.nspname = $2 AND root.relname = $3
                )
            ORDER BY 1
            LIMIT 5
        ) AS other
    ) AS others
FROM pg_catalog.pg_publication AS p
WHERE pg_catalog.starts_with(p.pubname::text, $1::text)
ORDER BY p.pubname
