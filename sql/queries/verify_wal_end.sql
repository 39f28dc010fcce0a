-- Every transaction that has been seen by now is in the WAL before this. Reads only.
SELECT pg_catalog.pg_current_wal_insert_lsn()::text AS lsn
