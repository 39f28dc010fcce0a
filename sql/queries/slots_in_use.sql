-- The replication slots of the server, by name, and how many there may be. Reads only; no locks.
SELECT
    pg_catalog.current_setting('max_replication_slots')::int8 AS allowed,
    coalesce(
        (SELECT array_agg(slot_name::text ORDER BY slot_name)
            FROM pg_catalog.pg_replication_slots),
        ARRAY[]::text[]
    ) AS names
