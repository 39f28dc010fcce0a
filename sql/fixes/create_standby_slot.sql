-- Printed by `walrelay check`: a slot for a standby that has none, and the standby's line for it.
SELECT pg_create_physical_replication_slot('standby1');
-- on the standby: primary_slot_name = 'standby1'
