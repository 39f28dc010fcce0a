-- The permanent slots of this database from which pgoutput can be read, with what each holds.
-- Reads only; no locks. invalidation_reason came with PostgreSQL 17.
SELECT
    s.slot_name::text AS slot_name,
    s.active,
    s.restart_lsn::text AS restart_lsn,
    s.confirmed_flush_lsn::text AS confirmed_lsn,
    s.wal_status,
    s.safe_wal_size::int8 AS safe_wal_size,
    (s.wal_status = 'lost' OR pg_catalog.to_jsonb(s) ->> 'invalidation_reason' IS NOT NULL)
    IS TRUE AS is_lost,
    (pg_catalog.pg_current_wal_lsn() - s.restart_lsn)::int8 AS retained_bytes
FROM pg_catalog.pg_replication_slots AS s
WHERE s.database = pg_catalog.current_database() AND s.plugin = 'pgoutput' AND NOT s.temporary
ORDER BY s.confirmed_flush_lsn, s.slot_name
