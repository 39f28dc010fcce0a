-- What is known of the transactions $1 (as pg_locks names them): process, if it has one, and how
-- long it has been going on. Reads only.
SELECT DISTINCT
    l.virtualtransaction AS name,
    l.pid,
    extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS seconds
FROM pg_catalog.pg_locks AS l
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.virtualtransaction = ANY ($1)
