-- Aggregates with a row that a relay has parked and that is not out yet, $1 of them at most, among
-- the rows that {mine} is true of. Reads only; by the partial index on next_attempt_at.
SELECT DISTINCT o.aggregate_id::text AS aggregate_id
FROM {table} AS o
WHERE o.next_attempt_at IS NOT NULL AND o.wal_position IS NOT NULL
    AND NOT o.published AND o.dead_lettered_at IS NULL AND o.aggregate_id IS NOT NULL
    AND {mine}
LIMIT $1
