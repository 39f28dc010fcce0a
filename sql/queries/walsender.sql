-- The slot $1, and the walsender that holds it. Reads only; no locks. sync_state is NULL when
-- nobody holds the slot, and for holders that this role may not see.
SELECT
    s.active_pid,
    s.confirmed_flush_lsn::text AS confirmed_lsn,
    a.sync_state
FROM pg_catalog.pg_replication_slots AS s
LEFT JOIN pg_catalog.pg_stat_replication AS a ON a.pid = s.active_pid
WHERE s.slot_name = $1
