-- Gives messages that cannot be published now rows, parked. Guarded as park_events.sql is: $1 slot,
-- $2 walsender, $3 the table's key. For each: $4 attempts, $5 seconds until the next, $6 why, $7
-- its position; then the values of {columns} as texts. Adds nothing where a row with its event_id
-- is there. Says whether the slot is ours, and the positions of those that were added.
WITH gate AS MATERIALIZED (
    SELECT pg_catalog.pg_advisory_xact_lock_shared(1635018100, $3::int4)::text AS locked
), mine AS MATERIALIZED (
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_replication_slots AS s
        WHERE gate.locked = '' AND s.slot_name = $1 AND s.active_pid = $2
    ) AS is_mine
    FROM gate
), parked AS (
    INSERT INTO {table} (
        {attempts}, {started_attempts}, {next_attempt_at}, {error_message}, {wal_position},
        {columns}
    )
    SELECT
        t.attempts, t.attempts, pg_catalog.now() + t.pause * interval '1 second', t.reason,
        t.wal_position, {values}
    FROM mine, unnest(
        $4::int4[], $5::float8[], $6::text[], $7::text[], {texts}
    ) AS t (attempts, pause, reason, wal_position, {names})
    WHERE mine.is_mine
    ORDER BY t.wal_position COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING {wal_position} AS wal_position
)
SELECT mine.is_mine, parked.wal_position::text AS wal_position
FROM mine LEFT JOIN parked ON true
