-- Claimed rows that are not in Redis stay parked, or become so. For each: $1 id, $2 attempts, $3
-- started attempts, $4 seconds until the next attempt (NULL: as it is, else now), $5 why (NULL: as
-- it is), $6 its place in the claim. One without a place in the order of commits gets one: all that
-- was committed until now is before it. Row locks that the claim holds already.
WITH here AS MATERIALIZED (
    SELECT pg_catalog.lpad(
        pg_catalog.to_hex((pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8), 16, '0'
    ) AS lsn
)
UPDATE {table} AS o
SET
    {attempts} = v.attempts,
    {started_attempts} = v.started,
    {next_attempt_at} = coalesce(
        pg_catalog.statement_timestamp() + v.pause * interval '1 second',
        o.next_attempt_at,
        pg_catalog.statement_timestamp()
    ),
    {error_message} = coalesce(v.message, o.error_message),
    {wal_position} = coalesce(
        o.wal_position, here.lsn || '-' || pg_catalog.lpad(pg_catalog.to_hex(v.place), 8, '0')
    )
FROM here,
    unnest(
        $1::int8[], $2::int4[], $3::int4[], $4::float8[], $5::text[], $6::int4[]
    ) AS v (id, attempts, started, pause, message, place)
WHERE o.id = v.id
