-- Rows that a relay has parked and that its slot may send again: those from position $1 on,
-- whatever became of them, that {mine} is true of. Reads only; by the partial index on
-- next_attempt_at.
SELECT o.id::int8 AS id, o.wal_position::text AS wal_position
FROM {table} AS o
WHERE o.next_attempt_at IS NOT NULL AND o.wal_position COLLATE "C" >= $1::text COLLATE "C"
    AND {mine}
