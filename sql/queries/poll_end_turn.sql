-- Ends the sessions that have the turn to claim rows of the outbox since more than $1 seconds: what
-- such a poller claimed it may not write any more, and whoever waits for it waits for ever. A role
-- may end processes of its own, and sees since when only of those.
SELECT l.pid, pg_catalog.pg_terminate_backend(l.pid) AS is_ended
FROM pg_catalog.pg_locks AS l
JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory'
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                      WHERE d.datname = pg_catalog.current_database())
    AND l.classid = 1635018100 AND l.objid::int8 = ({table_key}::int8 & 4294967295)
    AND l.objsubid = 2 AND l.granted
    AND a.xact_start < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)
