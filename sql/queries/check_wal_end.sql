-- How far the WAL has come, in bytes. A primary only. Reads only; no locks.
SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::float8 AS bytes
