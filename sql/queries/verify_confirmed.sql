-- Of the slots $1: whether a relay holds it, and whether all before $2 is confirmed. Reads only.
SELECT
    s.slot_name::text AS slot_name,
    s.active_pid IS NOT NULL AS is_held,
    (s.confirmed_flush_lsn >= $2::text::pg_lsn) IS TRUE AS has_confirmed
FROM pg_catalog.pg_replication_slots AS s
WHERE s.slot_name = ANY ($1::text[])
ORDER BY s.slot_name
