-- Inserts the row of an event back that was deleted before it could be parked, as a parked one.
-- Guarded as park_events.sql is: $1 slot, $2 walsender, $3 the table's key. $4: attempts,
-- $5: seconds until the next, $6: why, $7: its position; then its values as text, in the order of
-- {columns}. Adds nothing where a row with its id or its event_id is there.
WITH gate AS MATERIALIZED (
    SELECT pg_catalog.pg_advisory_xact_lock_shared(1635018100, $3::int4)::text AS locked
)
INSERT INTO {table} (
    {attempts}, {started_attempts}, {next_attempt_at}, {error_message}, {wal_position}, {columns}
) OVERRIDING SYSTEM VALUE
SELECT
    $4::int4, $4::int4, pg_catalog.now() + $5::float8 * interval '1 second', $6::text,
    $7::text, {values}
FROM gate
WHERE EXISTS (
    SELECT FROM pg_catalog.pg_replication_slots AS s
    WHERE gate.locked = '' AND s.slot_name = $1 AND s.active_pid = $2
)
ON CONFLICT DO NOTHING
