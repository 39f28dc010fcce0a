-- Sessions of relays in this database that may be of the outbox $1.$2 with the slots $3: a standby
-- holds nothing by which it could be told. Those are left out whose process reads another slot, or
-- holds the relay's lock on another table (table_lock.rs), and our own. Reads only; no locks.
SELECT a.pid, a.application_name
FROM pg_catalog.pg_stat_activity AS a
WHERE a.datname = current_database()
    AND a.application_name ~ '^walrelay-[0-9a-f]{8}$'
    AND a.application_name <> pg_catalog.current_setting('application_name')
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_replication_slots AS s
        JOIN pg_catalog.pg_stat_replication AS r ON r.pid = s.active_pid
        WHERE r.application_name = a.application_name AND s.slot_name <> ALL ($3::text[])
    )
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l
        JOIN pg_catalog.pg_stat_activity AS b ON b.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND (l.classid::int8 = 1635018099 OR l.classid::int8 BETWEEN 1635020000 AND 1635021999)
            AND b.application_name = a.application_name
            AND l.objid::int8 <> coalesce((
                SELECT (c.oid::int8 - 2147483648) & 4294967295
                FROM pg_catalog.pg_class AS c
                JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = $2
            ), -1)
    )
ORDER BY a.pid
