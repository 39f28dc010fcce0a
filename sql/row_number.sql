-- A whole number for each row of {table}, whose key is none: rows are marked, ordered and read
-- page by page by it. New rows get theirs by a default, whoever inserts them. Rewrites nothing;
-- repeating it changes nothing. Takes ACCESS EXCLUSIVE on the table for some milliseconds, and
-- gives up after five seconds rather than make writers queue behind it.
SET lock_timeout = '5s';
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {id} bigint;
CREATE SEQUENCE IF NOT EXISTS {sequence} OWNED BY {table}.{id};
-- Who may insert rows must not need to be told of it.
GRANT USAGE ON SEQUENCE {sequence} TO PUBLIC;
ALTER TABLE {table} ALTER COLUMN {id} SET DEFAULT pg_catalog.nextval({sequence_text});
RESET lock_timeout;
