-- The slot $1, who holds it, and how much WAL it keeps. A primary only. Reads only; no locks.
-- invalidation_reason and failover came with PostgreSQL 17.
SELECT
    s.plugin::text AS plugin,
    s.database::text AS database,
    s.temporary,
    s.active_pid,
    a.application_name AS application,
    a.sync_state,
    s.wal_status,
    s.safe_wal_size::float8 AS safe_bytes,
    pg_catalog.to_jsonb(s) ->> 'invalidation_reason' AS invalidation_reason,
    (pg_catalog.to_jsonb(s) ->> 'failover')::bool AS is_failover,
    s.restart_lsn::text AS restart_lsn,
    s.confirmed_flush_lsn::text AS confirmed_lsn,
    GREATEST(0, pg_catalog.pg_wal_lsn_diff(
        pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn))::float8 AS retained_bytes
FROM pg_catalog.pg_replication_slots AS s
LEFT JOIN pg_catalog.pg_stat_replication AS a ON a.pid = s.active_pid
WHERE s.slot_name = $1
