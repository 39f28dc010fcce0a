-- How many rows are dead and not discarded. Reads only, by the index on dead_lettered_at where
-- there is one.
SELECT pg_catalog.count(*) AS dead FROM {table} AS o
WHERE o.dead_lettered_at IS NOT NULL AND NOT o.published
