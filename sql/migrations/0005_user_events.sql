-- Events for plain SQL on identity.users, for applications that keep their statements: off until
-- somebody calls identity.enable_user_events. Repeating this changes nothing, no table is locked,
-- and an old relay may keep running. PostgreSQL 13 or newer.

CREATE OR REPLACE FUNCTION identity.emit_user_changes() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $walrelay$
DECLARE
    before identity.users;
    after identity.users;
    changed text[];
    left_out text := current_setting('walrelay.user_events', true);
BEGIN
    IF TG_OP = 'DELETE' THEN
        before := OLD;
        IF left_out IN ('off', before.id::text) THEN
            RETURN NULL;
        END IF;
        -- The last that is heard of the user, whether it was disabled before or not.
        before.status := 'disabled';
        PERFORM identity.emit_user_event('UserDisabled', before,
            '{"disabled_by": null, "reason": "deleted"}', disabled_at => clock_timestamp());
        RETURN NULL;
    END IF;
    after := NEW;
    IF left_out IN ('off', after.id::text) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM identity.emit_user_event('UserCreated', after);
        RETURN NULL;
    END IF;
    before := OLD;
    IF after.id <> before.id THEN
        RAISE EXCEPTION 'the id of user % cannot change: no event can say that', before.id USING
            ERRCODE = 'feature_not_supported',
            HINT = 'Delete the user and create another.';
    END IF;
    changed := identity.user_changes(before, after);
    IF after.status = 'disabled' AND before.status <> 'disabled' THEN
        -- Two steps, two events: what else has changed, and then that.
        changed := array_remove(changed, 'status');
        IF cardinality(changed) > 0 THEN
            after.status := before.status;
            PERFORM identity.emit_user_event('UserUpdated', after,
                jsonb_build_object('changed_fields', changed));
            after.status := 'disabled';
        END IF;
        PERFORM identity.emit_user_event('UserDisabled', after,
            '{"disabled_by": null, "reason": null}', disabled_at => clock_timestamp());
    ELSIF cardinality(changed) > 0 THEN
        PERFORM identity.emit_user_event('UserUpdated', after,
            jsonb_build_object('changed_fields', changed));
    END IF;
    RETURN NULL;
END
$walrelay$;

COMMENT ON FUNCTION identity.emit_user_changes IS
    'walrelay: internal; the trigger that enable_user_events creates on identity.users';

-- Takes SHARE ROW EXCLUSIVE on identity.users for some milliseconds if the trigger is not there,
-- and gives up after five seconds rather than make writers queue behind it.
CREATE OR REPLACE FUNCTION identity.enable_user_events() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $walrelay$
DECLARE
    state "char" := (
        SELECT t.tgenabled FROM pg_trigger AS t
        WHERE t.tgrelid = 'identity.users'::regclass AND t.tgname = 'walrelay_user_events'
    );
BEGIN
    IF state IS NULL THEN
        CREATE TRIGGER walrelay_user_events AFTER INSERT OR UPDATE OR DELETE ON identity.users
            FOR EACH ROW EXECUTE FUNCTION identity.emit_user_changes();
    ELSIF state = 'D' THEN
        ALTER TABLE identity.users ENABLE TRIGGER walrelay_user_events;
    END IF;
END
$walrelay$;

COMMENT ON FUNCTION identity.enable_user_events IS
    'walrelay: from now on plain SQL on identity.users emits events, too; repeatable';

CREATE OR REPLACE FUNCTION identity.disable_user_events() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $walrelay$
BEGIN
    IF EXISTS (
        SELECT FROM pg_trigger AS t
        WHERE t.tgrelid = 'identity.users'::regclass AND t.tgname = 'walrelay_user_events'
    ) THEN
        DROP TRIGGER walrelay_user_events ON identity.users;
    END IF;
END
$walrelay$;

COMMENT ON FUNCTION identity.disable_user_events IS
    'walrelay: plain SQL on identity.users emits no events any more; repeatable';
