-- Where the server stands: every transaction before xmin has ended, and its commit is in the WAL
-- before lsn (the statement's snapshot is older than the position it reads); and what all
-- the slots $1 have confirmed, NULL where one of them is missing. Reads only; no locks.
SELECT
    pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8 AS xmin,
    (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8 AS lsn,
    (
        SELECT CASE
            WHEN pg_catalog.count(s.confirmed_flush_lsn) = pg_catalog.cardinality($1::text[])
            THEN (pg_catalog.min(s.confirmed_flush_lsn) - '0/0'::pg_lsn)::int8
        END
        FROM pg_catalog.pg_replication_slots AS s
        WHERE s.slot_name = ANY ($1)
    ) AS confirmed
