-- Transactions that have been idle for $1 seconds or open for $2, and two-phase ones that have been
-- prepared for $1, the oldest first: of this database, and of others those that write, for a slot
-- waits for them too. Of sessions of other roles nothing is seen without pg_read_all_stats:
-- `hidden` counts them in every row, and there is always a row. Reads only; no locks.
WITH held AS (
    SELECT
        a.pid,
        NULL::text AS gid,
        a.datname::text AS database,
        a.usename::text AS role,
        a.application_name AS application,
        EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS open_seconds,
        CASE WHEN a.state LIKE 'idle in transaction%' THEN
            EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - a.state_change)::float8
        END AS idle_seconds
    FROM pg_catalog.pg_stat_activity AS a
    WHERE (a.datname = pg_catalog.current_database() OR a.backend_xid IS NOT NULL)
        AND a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
        AND a.xact_start IS NOT NULL
    UNION ALL
    SELECT
        NULL, x.gid, x.database::text, x.owner::text, NULL,
        EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - x.prepared)::float8,
        EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - x.prepared)::float8
    FROM pg_catalog.pg_prepared_xacts AS x
)
SELECT
    h.*,
    (
        SELECT count(*) FROM pg_catalog.pg_stat_activity AS a
        WHERE a.datname = pg_catalog.current_database()
            AND a.query = '<insufficient privilege>'
    ) AS hidden
FROM (SELECT) AS always
LEFT JOIN held AS h ON h.idle_seconds >= $1 OR h.open_seconds >= $2
ORDER BY h.open_seconds DESC NULLS LAST
LIMIT 6
