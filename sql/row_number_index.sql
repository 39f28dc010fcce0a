-- By this index rows are found by their number. Writers go on while it is made; where the table is
-- partitioned they cannot, and CONCURRENTLY must be left out. Repeating it changes nothing; one
-- that was interrupted leaves an invalid index, which `walrelay setup` drops first.
CREATE INDEX {concurrently}IF NOT EXISTS {index} ON {table} ({id});
