-- A condition, not a statement: whether a row belongs to the shard of {of} that has the remainder
-- {remainder}. hash_record() of one column is that column's own hash, of whatever type, and 0 for
-- NULL; it is built in and immutable, so a publication may ask it for each row. The sign is cut off
-- before the division. Equal aggregates are in one shard for as long as {of} stays the same.
(pg_catalog.hash_record(ROW({aggregate_id})) & 2147483647) % {of} = {remainder}
