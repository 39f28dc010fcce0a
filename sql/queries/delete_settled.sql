-- As release_settled.sql, for after_publish = delete: deletes published rows that were parked, and
-- that no slot sends again: those before position $1. Dead letters stay.
DELETE FROM {table}
WHERE id IN (
    SELECT id FROM {table}
    WHERE next_attempt_at IS NOT NULL AND wal_position COLLATE "C" < $1::text COLLATE "C"
        AND published AND dead_lettered_at IS NULL
    LIMIT 10000
    FOR UPDATE SKIP LOCKED
)
