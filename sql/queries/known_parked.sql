-- Rows that a relay has parked and that its slot may send again: those from position $1 on,
-- whatever became of them, that {mine} is true of. Reads only; by the partial index on
-- next_attempt_at.
SELECT id::int8 AS id, wal_position
FROM {table}
WHERE next_attempt_at IS NOT NULL AND wal_position COLLATE "C" >= $1::text COLLATE "C"
    AND {mine}
