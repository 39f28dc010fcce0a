-- Whether this role could stream from the slots $1 on this server, whether or not they are there.
-- Reads only; no locks.
SELECT
    pg_catalog.version() AS product,
    pg_catalog.current_setting('wal_level') AS wal_level,
    r.rolname::text AS role,
    (r.rolreplication OR r.rolsuper) AS may_replicate,
    pg_catalog.current_setting('max_replication_slots')::int4 AS slots_max,
    (SELECT count(*)::int4 FROM pg_catalog.pg_replication_slots) AS slots,
    pg_catalog.cardinality($1::text[]) - (
        SELECT count(*)::int4 FROM pg_catalog.pg_replication_slots AS s
        WHERE s.slot_name = ANY ($1)
    ) AS missing,
    EXISTS (
        SELECT FROM pg_catalog.pg_replication_slots AS s
        WHERE s.slot_name = ANY ($1) AND s.active
    ) AS is_active,
    pg_catalog.current_setting('max_wal_senders')::int4 AS senders_max,
    (SELECT count(*)::int4 FROM pg_catalog.pg_stat_replication) AS senders
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = current_user
