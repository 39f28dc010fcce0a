-- Tries to take the lock $3 on the outbox $1.$2 for this session: alone ($4), or together with
-- others. Locks from $5 to $6 are of those who work in the same way; while anybody has another of
-- the relay's locks on the table there is nothing to be had. To look and to take is one step: all
-- who try stand in line for the door, and that lock ends with the statement. Advisory locks:
-- readers and writers of the table notice nothing, and what is taken goes with the session. The key
-- is the table's oid, moved into the range of an integer. No row: no such table.
WITH door AS MATERIALIZED (
    SELECT k.key, pg_catalog.pg_advisory_xact_lock(1635018101, k.key)::text AS locked
    FROM pg_catalog.pg_class AS c
    CROSS JOIN LATERAL (SELECT (c.oid::int8 - 2147483648)::int4 AS key) AS k
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2
)
SELECT CASE
    WHEN EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND l.objid::int8 = door.key::int8 & 4294967295
            AND (l.classid::int8 = 1635018099 OR l.classid::int8 BETWEEN 1635020000 AND 1635021999)
            AND l.classid::int8 NOT BETWEEN $5::int4 AND $6::int4
            AND l.database = (
                SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()
            )
    ) THEN false
    WHEN $4 THEN pg_catalog.pg_try_advisory_lock($3::int4, door.key)
    ELSE pg_catalog.pg_try_advisory_lock_shared($3::int4, door.key)
END AS is_ours
FROM door
WHERE door.locked = ''
