-- Tries to be the one session that clears away what lines of another division left of the outbox
-- $1.$2. An advisory lock that goes with the session; its key is that of try_lock_table.sql.
SELECT pg_catalog.pg_try_advisory_lock(1635018102, key) AS is_ours
FROM pg_catalog.pg_class AS c
CROSS JOIN LATERAL (SELECT (c.oid::int8 - 2147483648)::int4 AS key) AS k
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
