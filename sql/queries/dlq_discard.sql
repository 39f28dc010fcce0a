-- Dead rows, by id or by filter, are settled for good, and keep when they died and why. Their
-- next_attempt_at stays: the slot may send such an event once more. Row locks only; a row that
-- somebody else has changed meanwhile is left alone.
UPDATE {table} AS o
SET
    {mark},
    {error_message} = pg_catalog.concat_ws(': ', 'discarded', o.error_message)
WHERE o.dead_lettered_at IS NOT NULL AND NOT o.published AND {which}
