-- A heartbeat: the message $1 under our prefix, in a transaction of its own, so that it goes the
-- way of an event: it is on disk when this returns, and the slot sends it in the order of commit.
-- It waits for no synchronous standby, as events in the WAL do not. Two small records of WAL, no
-- locks.
SELECT
    pg_catalog.set_config('synchronous_commit', 'local', true),
    pg_catalog.pg_logical_emit_message(true, 'walrelay', $1)
