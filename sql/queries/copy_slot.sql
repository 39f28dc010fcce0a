-- Creates the permanent slot $2 where the slot $1 stands, whichever session holds that, streaming
-- or not. From here on the server keeps the WAL behind it. Needs REPLICATION, and a free slot.
SELECT lsn::text AS confirmed_lsn
FROM pg_catalog.pg_copy_logical_replication_slot($1::text::name, $2::text::name, false)
