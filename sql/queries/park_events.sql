-- Parks events in their rows, while the slot $6 is held by the walsender $7. $1: ids of the rows,
-- $2: their positions, $3: attempts, $4: seconds until the next, $5: why. $8: the table's key.
-- A row that somebody has published, parked or given up is left as it is. Touches each row once;
-- repeating it is harmless. Row locks, and a shared lock that a new leader waits for: once it has
-- passed, no other relay parks anything.
WITH gate AS MATERIALIZED (
    SELECT pg_catalog.pg_advisory_xact_lock_shared(1635018100, $8::int4)::text AS locked
), mine AS MATERIALIZED (
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_replication_slots AS s
        WHERE gate.locked = '' AND s.slot_name = $6 AND s.active_pid = $7
    ) AS is_mine
    FROM gate
), asked AS (
    SELECT a.id, a.wal_position, a.attempts, a.pause, a.reason
    FROM unnest($1::int8[], $2::text[], $3::int4[], $4::float8[], $5::text[])
        AS a (id, wal_position, attempts, pause, reason)
), parked AS (
    UPDATE {table} AS o SET
        {attempts} = asked.attempts,
        {started_attempts} = asked.attempts,
        {next_attempt_at} = pg_catalog.now() + asked.pause * interval '1 second',
        {error_message} = asked.reason,
        {wal_position} = asked.wal_position
    FROM asked CROSS JOIN mine
    -- Twice, for the planner: a few rows of very many.
    WHERE mine.is_mine AND o.id = ANY ($1) AND o.id = asked.id
        AND NOT o.published AND o.next_attempt_at IS NULL AND o.dead_lettered_at IS NULL
    RETURNING o.id AS id
)
SELECT
    asked.id,
    mine.is_mine,
    parked.id IS NOT NULL AS is_parked,
    coalesce(known.is_settled, false) AS is_settled,
    known.id IS NOT NULL AS is_there
FROM asked
CROSS JOIN mine
LEFT JOIN parked ON parked.id = asked.id
LEFT JOIN (
    SELECT
        o.id AS id,
        -- As it was before.
        coalesce(
            o.published OR o.next_attempt_at IS NOT NULL OR o.dead_lettered_at IS NOT NULL, false
        ) AS is_settled
    FROM {table} AS o
    WHERE o.id = ANY ($1)
) AS known ON known.id = asked.id
