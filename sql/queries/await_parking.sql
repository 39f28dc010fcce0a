-- Waits until no other relay is in the midst of parking rows of the table $1.$2, and returns the
-- key by which relays wait for each other. The lock ends with the statement.
SELECT key, pg_catalog.pg_advisory_xact_lock(1635018100, key)::text AS locked
FROM pg_catalog.pg_class AS c
CROSS JOIN LATERAL (SELECT (c.oid::int8 - 2147483648)::int4 AS key) AS k
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
