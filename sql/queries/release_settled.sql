-- Forgets that rows were parked which are settled by now and which their slot does not send
-- again: those before position $1 that {mine} is true of. They keep everything else. Rows that
-- somebody has locked wait for the next time. Touches 10,000 rows at most; row locks only.
UPDATE {table} SET next_attempt_at = NULL
WHERE id IN (
    SELECT id FROM {table}
    WHERE next_attempt_at IS NOT NULL AND wal_position COLLATE "C" < $1::text COLLATE "C"
        AND (published OR dead_lettered_at IS NOT NULL)
        AND {mine}
    LIMIT 10000
    FOR UPDATE SKIP LOCKED
)
