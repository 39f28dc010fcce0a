-- Drops the replication slot $1, if it is there: the WAL that only it needed may go. An error where
-- somebody holds it. Needs REPLICATION.
SELECT pg_catalog.pg_drop_replication_slot(slot_name)
FROM pg_catalog.pg_replication_slots
WHERE slot_name = $1
