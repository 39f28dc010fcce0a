-- Of whatever kind the slot $1 is. Reads only; no locks.
SELECT
    coalesce(s.plugin, 'no plugin (a physical slot)')::text AS plugin,
    coalesce(s.database, 'none')::text AS database,
    s.temporary
FROM pg_catalog.pg_replication_slots AS s
WHERE s.slot_name = $1
