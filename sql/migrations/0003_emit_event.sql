-- identity.emit_event: one call writes one event in the caller's transaction, and refuses what
-- could never be published (the rules are those of src/outbox/envelope.rs). Repeating it changes
-- nothing, no table is locked, and an old relay may keep running. PostgreSQL 13 or newer. It runs
-- with the rights of its caller, who needs INSERT on identity.outbox and USAGE on its sequence and
-- on the schema. {max_event_bytes} is the setting of that name.

-- Functions of these names without our comment are somebody else's: they are not replaced, and
-- their callers are not made to choose between theirs and ours.
DO $walrelay$
DECLARE
    theirs text;
BEGIN
    SELECT pg_catalog.string_agg(p.oid::pg_catalog.regprocedure::text, ', ' ORDER BY p.oid)
    INTO theirs
    FROM pg_catalog.pg_proc AS p
    WHERE p.pronamespace = 'identity'::pg_catalog.regnamespace
        AND p.proname IN (
            'emit_event', 'emit_message', 'emit_user_event', 'create_user', 'update_user',
            'disable_user', 'user_changes', 'emit_user_changes', 'enable_user_events',
            'disable_user_events', 'migrate_users'
        )
        AND coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), '') NOT LIKE 'walrelay: %';
    IF theirs IS NOT NULL THEN
        RAISE EXCEPTION 'not of walrelay: %', theirs USING
            ERRCODE = 'duplicate_function',
            HINT = 'Rename them, and walrelay setup adds its functions; events can be written by '
                'INSERT as well.';
    END IF;
END
$walrelay$;

CREATE OR REPLACE FUNCTION identity.emit_event(
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
{refusals}
    -- What is not named has the table's default, as in any INSERT. Nothing is read back, so that
    -- the caller needs no SELECT.
    IF topic IS NULL THEN
        INSERT INTO identity.outbox (
            event_id, event_type, aggregate_type, aggregate_id, payload,
            tenant_id, correlation_id, traceparent, schema_version
        ) VALUES (
            id, event_type, kind, aggregate_id, payload,
            tenant_id, correlation_id, trace, schema_version
        );
    ELSE
        INSERT INTO identity.outbox (
            event_id, event_type, aggregate_type, aggregate_id, payload, topic,
            tenant_id, correlation_id, traceparent, schema_version
        ) VALUES (
            id, event_type, kind, aggregate_id, payload, topic,
            tenant_id, correlation_id, trace, schema_version
        );
    END IF;
    RETURN id;
END
$walrelay$;

COMMENT ON FUNCTION identity.emit_event IS
    'walrelay: writes one event into identity.outbox in this transaction and returns its id';
