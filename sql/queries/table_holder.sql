-- Who is in the way of the lock $3 on the outbox $1.$2 (see try_lock_table.sql): has it, or one of
-- the relay's that is not from $4 to $5; those that hold it alone first. Reads only; no locks.
-- is_idle: it has asked nothing for $6 seconds and streams from no slot, where this role may see
-- that.
SELECT
    l.pid,
    coalesce(a.application_name, 'unknown') AS application,
    l.mode = 'ExclusiveLock' AS is_alone,
    coalesce(
        a.state = 'idle' AND a.state_change < pg_catalog.now() - $6 * interval '1 s'
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_stat_replication AS r
            WHERE r.application_name = a.application_name AND r.state IN ('streaming', 'catchup')
        ),
        false
    ) AS is_idle
FROM pg_catalog.pg_class AS c
CROSS JOIN LATERAL (SELECT (c.oid::int8 - 2147483648) & 4294967295 AS key) AS k
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_locks AS l
    ON l.locktype = 'advisory' AND l.granted
    AND (l.classid::int8 = 1635018099 OR l.classid::int8 BETWEEN 1635020000 AND 1635021999)
    AND (l.classid::int8 = $3::int4 OR l.classid::int8 NOT BETWEEN $4::int4 AND $5::int4)
    AND l.objid::int8 = k.key AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE n.nspname = $1 AND c.relname = $2 AND l.pid <> pg_catalog.pg_backend_pid()
ORDER BY is_alone DESC, l.pid
LIMIT 1
