-- How many rows are dead and not discarded. Reads only, by the index on dead_lettered_at where
-- there is one.
SELECT pg_catalog.count(*) AS dead FROM {table} WHERE dead_lettered_at IS NOT NULL AND NOT published
