-- Users and their events by one call: identity.create_user, update_user and disable_user write
-- identity.users and the event that goes with it. Repeating it changes nothing, no table is locked,
-- and an old relay may keep running. PostgreSQL 13 or newer. They run with the rights of their
-- caller, who needs SELECT, INSERT and UPDATE on identity.users besides what emit_event needs.
--
-- The setting walrelay.user_events says whose changes the trigger of enable_user_events leaves to
-- somebody else: those of one user while a function here works on it, or, where an application
-- says off, those of all.

-- An event that says what this row says, and more. For the functions below.
CREATE OR REPLACE FUNCTION identity.emit_user_event(
    event_type text,
    person identity.users,
    more jsonb DEFAULT '{}',
    disabled_at timestamptz DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    traceparent text DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $walrelay$
DECLARE
    -- RFC 3339 in UTC, whatever the time zone of the session.
    rfc_3339 CONSTANT text := 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"';
    payload jsonb := more || jsonb_build_object(
        'user_id', person.id,
        'tenant_id', person.tenant_id,
        'email', person.email::text,
        'display_name', person.display_name,
        'status', person.status,
        'created_at', to_char(person.created_at AT TIME ZONE 'UTC', rfc_3339),
        'updated_at', to_char(person.updated_at AT TIME ZONE 'UTC', rfc_3339)
    );
BEGIN
    IF disabled_at IS NOT NULL THEN
        payload := payload || jsonb_build_object(
            'disabled_at', to_char(disabled_at AT TIME ZONE 'UTC', rfc_3339)
        );
    END IF;
    RETURN identity.emit_event(
        event_type, person.id, payload,
        aggregate_type => 'user',
        tenant_id => person.tenant_id,
        correlation_id => correlation_id,
        traceparent => traceparent
    );
END
$walrelay$;

COMMENT ON FUNCTION identity.emit_user_event IS
    'walrelay: internal; an event that says what a row of identity.users says';

-- The fields that differ. An address in other letters is another text: consumers compare bytes.
CREATE OR REPLACE FUNCTION identity.user_changes(before identity.users, after identity.users)
RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $walrelay$
BEGIN
    RETURN array_remove(ARRAY[
        CASE WHEN before.tenant_id IS DISTINCT FROM after.tenant_id THEN 'tenant_id' END,
        CASE WHEN before.email::text COLLATE "C" IS DISTINCT FROM after.email::text COLLATE "C"
            THEN 'email' END,
        CASE WHEN before.display_name COLLATE "C" IS DISTINCT FROM after.display_name COLLATE "C"
            THEN 'display_name' END,
        CASE WHEN before.status IS DISTINCT FROM after.status THEN 'status' END
    ], NULL);
END
$walrelay$;

COMMENT ON FUNCTION identity.user_changes IS
    'walrelay: internal; the fields of an event that differ between two rows of identity.users';

CREATE OR REPLACE FUNCTION identity.create_user(
    email text,
    display_name text DEFAULT NULL,
    tenant_id uuid DEFAULT NULL,
    user_id uuid DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    traceparent text DEFAULT NULL
) RETURNS identity.users
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $walrelay$
DECLARE
    person identity.users;
    new_id uuid := coalesce(user_id, gen_random_uuid());
    left_out text := coalesce(current_setting('walrelay.user_events', true), '');
BEGIN
    IF coalesce(btrim(email), '') = '' THEN
        RAISE EXCEPTION 'the user has no email' USING
            ERRCODE = 'invalid_parameter_value', HINT = 'A user has an address.';
    END IF;
    PERFORM set_config('walrelay.user_events', new_id::text, true);
    INSERT INTO identity.users AS u (id, tenant_id, email, display_name)
    VALUES (
        new_id,
        coalesce(create_user.tenant_id, '00000000-0000-0000-0000-000000000000'),
        create_user.email,
        nullif(create_user.display_name, '')
    )
    RETURNING u.* INTO STRICT person;
    PERFORM set_config('walrelay.user_events', left_out, true);
    PERFORM identity.emit_user_event('UserCreated', person,
        correlation_id => correlation_id, traceparent => traceparent);
    RETURN person;
END
$walrelay$;

COMMENT ON FUNCTION identity.create_user IS
    'walrelay: adds a user and the event UserCreated; returns the row';

-- NULL leaves a field as it is, an empty display_name clears it. What changes nothing writes
-- nothing. The row stays locked until the transaction ends, so that events are committed in the
-- order of the row's changes; updated_at is read behind that lock.
CREATE OR REPLACE FUNCTION identity.update_user(
    user_id uuid,
    email text DEFAULT NULL,
    display_name text DEFAULT NULL,
    status text DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    traceparent text DEFAULT NULL
) RETURNS identity.users
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $walrelay$
DECLARE
    before identity.users;
    after identity.users;
    changed text[];
    left_out text := coalesce(current_setting('walrelay.user_events', true), '');
BEGIN
    IF btrim(email) = '' THEN
        RAISE EXCEPTION 'the new email is empty' USING
            ERRCODE = 'invalid_parameter_value', HINT = 'NULL leaves it as it is.';
    END IF;
    SELECT u.* INTO before FROM identity.users AS u
    WHERE u.id = update_user.user_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no user %', user_id USING
            ERRCODE = 'no_data_found', HINT = 'identity.create_user adds one.';
    END IF;
    after := before;
    after.email := coalesce(update_user.email, before.email::text);
    after.display_name := nullif(coalesce(update_user.display_name, before.display_name), '');
    after.status := coalesce(update_user.status, before.status);
    IF after.status = 'disabled' AND before.status <> 'disabled' THEN
        RAISE EXCEPTION 'update_user does not disable a user' USING
            ERRCODE = 'invalid_parameter_value',
            HINT = 'identity.disable_user does, and says by whom and why.';
    END IF;
    IF cardinality(identity.user_changes(before, after)) = 0 THEN
        RETURN before;
    END IF;
    PERFORM set_config('walrelay.user_events', user_id::text, true);
    UPDATE identity.users AS u
    SET email = after.email, display_name = after.display_name, status = after.status,
        updated_at = clock_timestamp()
    WHERE u.id = update_user.user_id
    RETURNING u.* INTO after;
    PERFORM set_config('walrelay.user_events', left_out, true);
    -- A trigger of somebody else's may have had its say.
    changed := identity.user_changes(before, after);
    IF cardinality(changed) > 0 THEN
        PERFORM identity.emit_user_event('UserUpdated', after,
            jsonb_build_object('changed_fields', changed),
            correlation_id => correlation_id, traceparent => traceparent);
    END IF;
    RETURN after;
END
$walrelay$;

COMMENT ON FUNCTION identity.update_user IS
    'walrelay: changes a user and adds the event UserUpdated, if anything changes; returns the row';

CREATE OR REPLACE FUNCTION identity.disable_user(
    user_id uuid,
    disabled_by text DEFAULT NULL,
    reason text DEFAULT NULL,
    correlation_id text DEFAULT NULL,
    traceparent text DEFAULT NULL
) RETURNS identity.users
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $walrelay$
DECLARE
    person identity.users;
    left_out text := coalesce(current_setting('walrelay.user_events', true), '');
BEGIN
    SELECT u.* INTO person FROM identity.users AS u
    WHERE u.id = disable_user.user_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no user %', user_id USING
            ERRCODE = 'no_data_found', HINT = 'What was deleted cannot be disabled.';
    END IF;
    IF person.status = 'disabled' THEN
        RETURN person;
    END IF;
    PERFORM set_config('walrelay.user_events', user_id::text, true);
    UPDATE identity.users AS u
    SET status = 'disabled', updated_at = clock_timestamp()
    WHERE u.id = disable_user.user_id
    RETURNING u.* INTO person;
    PERFORM set_config('walrelay.user_events', left_out, true);
    IF person.status = 'disabled' THEN
        PERFORM identity.emit_user_event('UserDisabled', person,
            jsonb_build_object('disabled_by', disabled_by, 'reason', reason),
            disabled_at => person.updated_at,
            correlation_id => correlation_id, traceparent => traceparent);
    END IF;
    RETURN person;
END
$walrelay$;

COMMENT ON FUNCTION identity.disable_user IS
    'walrelay: disables a user and adds the event UserDisabled, once; returns the row';
