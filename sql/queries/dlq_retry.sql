-- Dead rows, by id or by filter, become parked rows that are due now, with all attempts to come.
-- The event id stays, and so does the place in the order of commits, where there is one. Row locks
-- only; a row that somebody else has changed meanwhile is left alone.
UPDATE {table} AS o
SET
    {attempts} = 0,
    {started_attempts} = 0,
    {dead_lettered_at} = NULL,
    {next_attempt_at} = pg_catalog.now(),
    {error_message} = NULL
WHERE o.dead_lettered_at IS NOT NULL AND NOT o.published AND {which}
