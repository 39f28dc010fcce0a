-- identity.emit_message: one call writes one event into the WAL and into no table, in the caller's
-- transaction, and refuses what could never be published, as identity.emit_event does. Relays with
-- messages = true publish it; nobody else knows of it. Repeating this changes nothing, no table is
-- locked, and an old relay may keep running: it passes such messages over. PostgreSQL 14 or newer
-- for calls. It runs with the rights of its caller, who needs USAGE on the schema and no right on
-- the table. {max_event_bytes} is the setting of that name. 0003 looks first whether the name is
-- ours.
CREATE OR REPLACE FUNCTION identity.emit_message(
    event_type text,
    aggregate_id uuid,
    payload jsonb,
    topic text DEFAULT NULL,
    aggregate_type text DEFAULT NULL,
    tenant_id uuid DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    traceparent text DEFAULT NULL,
    schema_version text DEFAULT NULL,
    event_id uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $walrelay$
DECLARE
    bytes_max CONSTANT bigint := {max_event_bytes};
    bytes bigint;
    id uuid := coalesce(event_id, gen_random_uuid());
    kind text := coalesce(aggregate_type, 'user');
    -- The relay takes an empty one for none, too.
    trace text := nullif(traceparent, '');
BEGIN
    -- Such a message would be written, and never be sent to anybody.
    IF current_setting('wal_level') <> 'logical'
        OR current_setting('server_version_num')::int < 140000
    THEN
        RAISE EXCEPTION 'this server passes no messages on' USING
            ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'It takes PostgreSQL 14 and wal_level = logical; identity.emit_event takes '
                'neither.';
    END IF;
{refusals}
    -- As bytes: they are sent as they are, and the relay reads UTF-8. Transactional: it is
    -- published if this transaction commits, in its order.
    PERFORM pg_logical_emit_message(true, 'walrelay:identity.outbox', convert_to(json_build_object(
        'event_id', id,
        'event_type', event_type,
        'aggregate_type', kind,
        'aggregate_id', aggregate_id,
        'topic', topic,
        'tenant_id', tenant_id,
        'correlation_id', correlation_id,
        'traceparent', trace,
        'schema_version', schema_version,
        'payload', payload
    )::text, 'UTF8'));
    RETURN id;
END
$walrelay$;

COMMENT ON FUNCTION identity.emit_message IS
    'walrelay: writes one event into the WAL alone, in this transaction, and returns its id. Only '
    'relays with messages = true publish it. There is no row: what is emitted while there is no '
    'replication slot, or is unsent when the slot is lost, is gone; polling, marking, retention '
    'and replay from the table do not know it; an event_id is not kept from being used twice';
