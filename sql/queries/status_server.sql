-- The server, and the end of its WAL: on a standby, of what it has replayed. Reads only; no locks.
SELECT
    pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1) AS version,
    pg_catalog.pg_is_in_recovery() AS is_standby,
    (
        CASE
            WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn()
        END
    )::text AS current_lsn
