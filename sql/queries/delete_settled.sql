-- As release_settled.sql, for after_publish = delete: deletes published rows that were parked, and
-- that their slot does not send again: those before position $1 that {mine} is true of. Dead
-- letters stay.
DELETE FROM {table} AS o
WHERE o.id IN (
    SELECT o.id FROM {table} AS o
    WHERE o.next_attempt_at IS NOT NULL AND o.wal_position COLLATE "C" < $1::text COLLATE "C"
        AND o.published AND o.dead_lettered_at IS NULL
        AND {mine}
    LIMIT 10000
    FOR UPDATE SKIP LOCKED
)
