-- Of the transactions that a new slot waits for (those that have written) the one that has been
-- open for longest, as far as this role may see, and how many there are. Prepared ones have no
-- process. Reads only; no locks.
SELECT
    pid,
    coalesce(application_name, '') AS application,
    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - began)::int8 AS seconds,
    pg_catalog.count(*) OVER () AS open
FROM (
    SELECT a.pid, a.application_name, a.xact_start AS began
    FROM pg_catalog.pg_stat_activity AS a
    WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
        AND a.application_name <> pg_catalog.current_setting('application_name')
    UNION ALL
    SELECT NULL, 'prepared transaction ' || p.gid, p.prepared
    FROM pg_catalog.pg_prepared_xacts AS p
) AS t
ORDER BY began
LIMIT 1
