-- Who else holds the relay's lock on the outbox $1.$2 (see try_lock_table.sql); those that hold it
-- alone first. Reads only; no locks. is_idle: it has asked nothing for $3 seconds, where this role
-- may see that.
SELECT
    l.pid,
    coalesce(a.application_name, 'unknown') AS application,
    l.mode = 'ExclusiveLock' AS is_alone,
    coalesce(
        a.state = 'idle' AND a.state_change < pg_catalog.now() - $3 * interval '1 s', false
    ) AS is_idle
FROM pg_catalog.pg_class AS c
CROSS JOIN LATERAL (SELECT (c.oid::int8 - 2147483648) & 4294967295 AS key) AS k
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_locks AS l
    ON l.locktype = 'advisory' AND l.granted AND l.classid::int8 = 1635018099
    AND l.objid::int8 = k.key AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE n.nspname = $1 AND c.relname = $2 AND l.pid <> pg_catalog.pg_backend_pid()
ORDER BY is_alone DESC, l.pid
LIMIT 1
