-- The permanent logical slots of this database whose names begin with $1, where they stand, who
-- holds them, and what they keep of the WAL. Reads only; no locks. active_application is NULL for a
-- slot that nobody holds, and for holders that this role may not see. A standby's WAL ends where it
-- has replayed. invalidation_reason came with PostgreSQL 17.
SELECT
    s.slot_name::text AS slot_name,
    s.plugin::text AS plugin,
    s.active_pid,
    a.application_name AS active_application,
    s.wal_status,
    pg_catalog.to_jsonb(s) ->> 'invalidation_reason' AS invalidation_reason,
    s.safe_wal_size::int8 AS safe_bytes,
    s.restart_lsn::text AS restart_lsn,
    s.confirmed_flush_lsn::text AS confirmed_lsn,
    greatest(here.lsn - s.restart_lsn, 0)::int8 AS kept_bytes,
    greatest(here.lsn - s.confirmed_flush_lsn, 0)::int8 AS behind_bytes
FROM pg_catalog.pg_replication_slots AS s
CROSS JOIN (
    SELECT CASE
        WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_lsn()
    END AS lsn
) AS here
LEFT JOIN pg_catalog.pg_stat_replication AS a ON a.pid = s.active_pid
WHERE s.database = current_database() AND NOT s.temporary
    AND pg_catalog.starts_with(s.slot_name::text, $1::text)
ORDER BY s.slot_name
