-- Printed by `walrelay check`: the relay's slot, where it may make none. `{failover}` makes it one
-- that outlives a failover, from PostgreSQL 17 on.
SELECT pg_create_logical_replication_slot({slot}, 'pgoutput'{failover});
