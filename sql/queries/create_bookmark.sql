-- The permanent slot $1 at the present end of the WAL: what is committed from here on it sends.
-- Waits for the transactions that are open. Needs REPLICATION, and a free slot.
SELECT lsn::text AS confirmed_lsn
FROM pg_catalog.pg_create_logical_replication_slot($1::text::name, 'pgoutput')
