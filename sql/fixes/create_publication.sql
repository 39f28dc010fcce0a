-- Printed by `walrelay check`: the relay's publication, for whoever owns the table.
CREATE PUBLICATION {publication} FOR TABLE {table}{filter}
    WITH (publish = 'insert', publish_via_partition_root = true);
