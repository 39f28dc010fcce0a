-- One slot by its name ($1), with the connection that holds it. Reads only; no locks.
-- active_application is NULL for a slot that nobody holds, and for holders that this role may not
-- see. invalidation_reason came with PostgreSQL 17.
SELECT
    s.plugin::text AS plugin,
    s.database::text AS database,
    s.temporary,
    s.active_pid,
    a.application_name AS active_application,
    s.wal_status,
    pg_catalog.to_jsonb(s) ->> 'invalidation_reason' AS invalidation_reason,
    s.confirmed_flush_lsn::text AS confirmed_lsn
FROM pg_catalog.pg_replication_slots AS s
LEFT JOIN pg_catalog.pg_stat_replication AS a ON a.pid = s.active_pid
WHERE s.slot_name = $1
