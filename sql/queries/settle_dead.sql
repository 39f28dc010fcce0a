-- Claimed rows whose dead letters are safely in Redis are dead. For each: $1 id, $2 attempts, $3
-- why. $4 as $2 of settle_delivered.sql. Row locks that the claim holds already.
UPDATE {table} AS o
SET
    {dead_lettered_at} = pg_catalog.statement_timestamp(),
    {attempts} = v.attempts,
    {error_message} = v.message,
    {next_attempt_at} = CASE WHEN $4 OR o.wal_position IS NULL THEN NULL ELSE o.next_attempt_at END
FROM unnest($1::int8[], $2::int4[], $3::text[]) AS v (id, attempts, message)
WHERE o.id = v.id
