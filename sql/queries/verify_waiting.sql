-- How many rows wait to be published again, parked by verify_repair.sql with the reason $1. Reads
-- only, by the index on next_attempt_at.
SELECT pg_catalog.count(*) AS waiting
FROM {table} AS o
WHERE o.next_attempt_at IS NOT NULL AND NOT o.published AND o.dead_lettered_at IS NULL
    AND o.error_message = $1
