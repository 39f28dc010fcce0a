-- The slot $1 as the server sees it, and where its WAL ends now. Reads only; no locks. No row where
-- the slot is gone.
SELECT
    s.wal_status,
    s.safe_wal_size,
    (pg_catalog.pg_current_wal_lsn() - s.restart_lsn)::int8 AS retained_bytes,
    pg_catalog.pg_current_wal_lsn()::text AS current_lsn
FROM pg_catalog.pg_replication_slots AS s
WHERE s.slot_name = $1
