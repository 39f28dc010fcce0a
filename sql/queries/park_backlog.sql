-- Parks rows from before the slot that cannot be published now. Parallel arrays: $1 their ids, $2
-- attempts, $3 milliseconds until the next one, $4 why, $5 their place in the order of commits. Row
-- locks only. What somebody else has settled or parked meanwhile stays as it is.
UPDATE {table} AS o
SET {attempts} = p.attempts,
    {started_attempts} = p.attempts,
    {next_attempt_at} = pg_catalog.now() + p.delay * interval '1 ms',
    {error_message} = p.reason,
    {wal_position} = p.position
FROM ROWS FROM (
    pg_catalog.unnest($1::int8[]),
    pg_catalog.unnest($2::int4[]),
    pg_catalog.unnest($3::float8[]),
    pg_catalog.unnest($4::text[]),
    pg_catalog.unnest($5::text[])
) AS p (id, attempts, delay, reason, position)
WHERE o.id = p.id AND o.published IS NOT TRUE AND o.next_attempt_at IS NULL
    AND o.dead_lettered_at IS NULL
