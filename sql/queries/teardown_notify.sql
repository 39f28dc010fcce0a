-- What `walrelay setup --notify` has left on the table $1.$2: the trigger, its function, how many
-- triggers of other tables call that as well, and whether this role may drop them. A row in any
-- case. Reads only; no locks.
SELECT
    c.oid IS NOT NULL AS has_table,
    t.oid IS NOT NULL AS has_trigger,
    f.oid IS NOT NULL AS has_function,
    coalesce(pg_catalog.pg_has_role(c.relowner, 'USAGE'), true) AS owns_table,
    coalesce(pg_catalog.pg_has_role(f.proowner, 'USAGE'), true) AS owns_function,
    (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger AS o
        WHERE o.tgfoid = f.oid AND o.oid IS DISTINCT FROM t.oid
    ) AS other_triggers
FROM (SELECT) AS always
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = $1
LEFT JOIN pg_catalog.pg_class AS c
    ON c.relnamespace = n.oid AND c.relname = $2 AND c.relkind IN ('r', 'p')
LEFT JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = c.oid AND t.tgname = 'walrelay_notify'
LEFT JOIN pg_catalog.pg_proc AS f
    ON f.pronamespace = n.oid AND f.proname = 'walrelay_notify' AND f.pronargs = 0
