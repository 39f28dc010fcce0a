-- The outbox $1.$2 as pollers need it: the key of their advisory locks (its oid, moved into the
-- range of an integer), the name of the system, and the channel on which our trigger announces
-- rows, where it is installed. No row: no such table. Reads only.
SELECT
    (c.oid::int8 - 2147483648)::int4 AS table_key,
    EXISTS (
        SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = c.oid AND t.tgname = 'walrelay_notify' AND t.tgenabled IN ('O', 'A')
    ) AS has_trigger,
    (SELECT s.system_identifier::text FROM pg_catalog.pg_control_system() AS s) AS system_id
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')
