-- A temporary slot {to} of this very session that stands where the slot {from} does, whichever
-- session holds that. It goes with the session, however that ends. Run on the replication
-- connection that then streams from it: no other session can. Needs REPLICATION, and a free slot.
SELECT lsn::text AS confirmed_lsn
FROM pg_catalog.pg_copy_logical_replication_slot({from}::text::name, {to}::text::name, true)
