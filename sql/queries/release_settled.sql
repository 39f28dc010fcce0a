-- Forgets that rows were parked which are settled by now and which their slot does not send
-- again: those before position $1 that {mine} is true of. They keep everything else. Rows that
-- somebody has locked wait for the next time. Touches 10,000 rows at most; row locks only.
UPDATE {table} AS o SET {next_attempt_at} = NULL
WHERE o.id IN (
    SELECT o.id FROM {table} AS o
    WHERE o.next_attempt_at IS NOT NULL AND o.wal_position COLLATE "C" < $1::text COLLATE "C"
        AND (o.published OR o.dead_lettered_at IS NOT NULL)
        AND {mine}
    LIMIT 10000
    FOR UPDATE SKIP LOCKED
)
