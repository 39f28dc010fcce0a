-- Printed by `walrelay check`: away with a replication slot that nobody holds.
SELECT pg_drop_replication_slot({slot});
