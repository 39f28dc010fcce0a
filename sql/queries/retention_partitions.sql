-- The partitions of the outbox $1.$2, the oldest first, and what is needed to say whether one may
-- go: the type of its key, where it ends (NULL: at no value), whether it is the one for all the
-- rest, and whether this role owns both tables. Nothing for a table that is not partitioned by
-- ranges of one column. Reads only; no locks.
SELECT
    cn.nspname::text AS schema,
    c.relname::text AS name,
    a.attname::text AS key,
    a.atttypid AS key_oid,
    b.bound = 'DEFAULT' AS is_default,
    c.relkind = 'r' AS is_plain,
    -- FOR VALUES FROM ('...') TO ('...'); MINVALUE and MAXVALUE stand without quotes.
    nullif(pg_catalog.substring(b.bound, $re$ TO \('?([^']+?)'?\)$$re$), 'MAXVALUE') AS upper_bound,
    pg_catalog.pg_has_role(p.relowner, 'USAGE') AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
        AS is_ours
FROM pg_catalog.pg_class AS p
JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace
JOIN pg_catalog.pg_partitioned_table AS t
    ON t.partrelid = p.oid AND t.partstrat = 'r' AND t.partnatts = 1 AND t.partattrs[0] <> 0
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.oid AND a.attnum = t.partattrs[0]
JOIN pg_catalog.pg_inherits AS i ON i.inhparent = p.oid
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace AS cn ON cn.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound) AS b
WHERE pn.nspname = $1 AND p.relname = $2
ORDER BY c.oid
