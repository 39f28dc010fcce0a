-- Where decoding for the slot $1 begins after a restart. Reads only; no locks.
SELECT restart_lsn::text AS restart_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = $1
