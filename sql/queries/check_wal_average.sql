-- WAL written since its statistics began, and how long that is, in seconds. PostgreSQL 14 and
-- newer. Reads only; no locks.
SELECT
    w.wal_bytes::float8 AS bytes,
    EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - w.stats_reset)::float8 AS seconds
FROM pg_catalog.pg_stat_wal AS w
