-- Tries to take the relay's own lock on the outbox $1.$2 for this session: alone ($3), as the line
-- does, or together with others, as pollers do. An advisory lock: readers and writers of the table
-- notice nothing, and it goes with the session. Its key is the table's oid, moved into the range of
-- an integer. No row: no such table.
SELECT CASE
    WHEN $3 THEN pg_catalog.pg_try_advisory_lock(1635018099, key)
    ELSE pg_catalog.pg_try_advisory_lock_shared(1635018099, key)
END AS is_ours
FROM pg_catalog.pg_class AS c
CROSS JOIN LATERAL (SELECT (c.oid::int8 - 2147483648)::int4 AS key) AS k
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
