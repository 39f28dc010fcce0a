-- What the server is and how it is set, for `walrelay check`, in one row. Reads only; no locks.
-- Settings that came with 17 and 18 are NULL before. `others` are connections that read the WAL and
-- hold no logical slot: standbys, and backups while they run.
SELECT
    pg_catalog.current_setting('server_version_num')::int4 AS version_num,
    pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1) AS version,
    pg_catalog.pg_is_in_recovery() AS is_standby,
    (
        SELECT pg_catalog.format('%s:%s', w.sender_host, w.sender_port)
        FROM pg_catalog.pg_stat_wal_receiver AS w
        WHERE w.sender_host IS NOT NULL
    ) AS primary_address,
    pg_catalog.current_setting('wal_level') AS wal_level,
    pg_catalog.current_setting('max_replication_slots')::int4 AS slots_max,
    (SELECT count(*)::int4 FROM pg_catalog.pg_replication_slots) AS slots,
    pg_catalog.current_setting('max_wal_senders')::int4 AS senders_max,
    (SELECT count(*)::int4 FROM pg_catalog.pg_stat_replication) AS senders,
    (
        SELECT s.setting::int8 FROM pg_catalog.pg_settings AS s
        WHERE s.name = 'max_slot_wal_keep_size'
    ) AS keep_mb,
    pg_catalog.current_setting('idle_replication_slot_timeout', true) AS idle_slot_timeout,
    pg_catalog.current_setting('sync_replication_slots', true) AS sync_slots,
    pg_catalog.current_setting('synchronized_standby_slots', true) AS standby_slots,
    pg_catalog.current_setting('synchronous_standby_names') AS synchronous_names,
    ARRAY(
        SELECT s.slot_name::text FROM pg_catalog.pg_replication_slots AS s
        WHERE s.slot_type = 'physical' ORDER BY s.slot_name
    ) AS physical_slots,
    ARRAY(
        SELECT DISTINCT a.application_name FROM pg_catalog.pg_stat_replication AS a
        WHERE a.application_name <> '' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_replication_slots AS s
            WHERE s.active_pid = a.pid AND s.slot_type = 'logical'
        )
    ) AS others
