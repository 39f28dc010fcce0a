-- Where the server stands: every transaction before xmin has ended, and its commit is in the WAL
-- before lsn (the statement's snapshot is older than the position it reads); and what the slot $1
-- has confirmed, NULL without such a slot. Reads only; no locks.
SELECT
    pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8 AS xmin,
    (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8 AS lsn,
    (
        SELECT (s.confirmed_flush_lsn - '0/0'::pg_lsn)::int8
        FROM pg_catalog.pg_replication_slots AS s
        WHERE s.slot_name = $1::text
    ) AS confirmed
