-- Printed by `walrelay check`: an index that lets writers go on while it is made.
CREATE INDEX {concurrently}{index} ON {table} ({columns}){predicate};
