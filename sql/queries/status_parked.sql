-- How many rows are parked, and how many of those are due. Reads only, by the index on
-- next_attempt_at where there is one.
SELECT
    pg_catalog.count(*) AS parked,
    pg_catalog.count(*) FILTER (WHERE o.next_attempt_at <= pg_catalog.now()) AS due
FROM {table} AS o
WHERE o.next_attempt_at IS NOT NULL AND NOT o.published AND o.dead_lettered_at IS NULL
