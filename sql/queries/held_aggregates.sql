-- Aggregates with an event that a relay has parked: what comes later waits behind it. Reads only,
-- by the partial index on next_attempt_at.
SELECT DISTINCT o.aggregate_id::text AS aggregate_id
FROM {table} AS o
WHERE o.next_attempt_at IS NOT NULL AND o.wal_position IS NOT NULL
    AND o.published IS NOT TRUE AND o.dead_lettered_at IS NULL
