-- Attempts at the rows $1 that were begun and not made are not counted. A row that somebody else
-- has claimed meanwhile is left to them: its next end sets the count right.
UPDATE {table} AS o
SET {started_attempts} = o.started_attempts - 1
WHERE o.id IN (
    SELECT o.id FROM {table} AS o
    WHERE o.id = ANY ($1) AND o.started_attempts > o.attempts
    FOR UPDATE SKIP LOCKED
)
