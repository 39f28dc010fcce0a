-- What the relay must know of the server and of its own role, in one row. Reads only; no locks.
SELECT
    pg_catalog.current_setting('server_version_num')::int4 AS version_num,
    pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1) AS version,
    pg_catalog.current_setting('wal_level') AS wal_level,
    pg_catalog.pg_is_in_recovery() AS is_standby,
    -- current_setting() would print units.
    (
        SELECT s.setting::int8 FROM pg_catalog.pg_settings AS s
        WHERE s.name = 'wal_sender_timeout'
    ) AS wal_sender_timeout_ms,
    r.rolname::text AS role,
    (r.rolreplication OR r.rolsuper) AS may_replicate
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = current_user
