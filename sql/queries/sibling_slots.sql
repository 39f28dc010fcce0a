-- The logical slots of this database whose names begin with $1. Reads only; no locks.
SELECT slot_name::text AS slot_name
FROM pg_catalog.pg_replication_slots
WHERE database = current_database() AND NOT temporary
    AND pg_catalog.starts_with(slot_name::text, $1::text)
ORDER BY slot_name
