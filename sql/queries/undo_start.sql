-- Attempts at the rows $1 that were begun and not made are not counted. A row that somebody else has
-- claimed meanwhile is left to them: its next end sets the count right.
UPDATE {table}
SET started_attempts = started_attempts - 1
WHERE id IN (
    SELECT id FROM {table}
    WHERE id = ANY ($1) AND started_attempts > attempts
    FOR UPDATE SKIP LOCKED
)
