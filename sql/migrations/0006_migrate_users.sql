-- identity.migrate_users: users from a table or view that is there into identity.users, each once,
-- with or without events. Repeating this changes nothing, no table is locked, and an old relay may
-- keep running. PostgreSQL 13 or newer. It runs with the rights of its caller, who needs SELECT on
-- the source besides what create_user needs.

-- The arguments after emit name columns of the source; NULL: the column of the same name, if there
-- is one. id => '' has ids made: the address then tells who is there already.
CREATE OR REPLACE FUNCTION identity.migrate_users(
    source regclass,
    emit boolean DEFAULT false,
    id text DEFAULT NULL,
    email text DEFAULT NULL,
    display_name text DEFAULT NULL,
    status text DEFAULT NULL,
    tenant_id text DEFAULT NULL,
    created_at text DEFAULT NULL,
    updated_at text DEFAULT NULL,
    OUT source_rows bigint,
    OUT imported bigint,
    OUT already_there bigint,
    OUT address_taken bigint,
    OUT without_address bigint,
    OUT events bigint
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $walrelay$
DECLARE
    -- Ours, in the order of the arguments; the type of the value; what stands in for a NULL.
    ours CONSTANT text[] := ARRAY[
        'id', 'email', 'display_name', 'status', 'tenant_id', 'created_at', 'updated_at'
    ];
    named CONSTANT text[] := ARRAY[
        id, email, display_name, status, tenant_id, created_at, updated_at
    ];
    types CONSTANT text[] := ARRAY[
        'uuid', 'text', 'text', 'text', 'uuid', 'timestamptz', 'timestamptz'
    ];
    defaults CONSTANT text[] := ARRAY[
        'gen_random_uuid()', 'NULL::text', 'NULL::text', '''active''',
        '''00000000-0000-0000-0000-000000000000''::uuid', 'now()', 'now()'
    ];
    relation text;
    found_type regtype;
    expressions text[] := '{}';
    has_id boolean := false;
    left_out text := coalesce(current_setting('walrelay.user_events', true), '');
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname) INTO relation
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = source;
    IF relation IS NULL THEN
        RAISE EXCEPTION 'migrate_users has no source' USING
            ERRCODE = 'undefined_table', HINT = 'Name a table or view: ''legacy.accounts''.';
    END IF;
    FOR place IN 1..7 LOOP
        found_type := NULL;
        IF named[place] IS DISTINCT FROM '' THEN
            SELECT a.atttypid::regtype INTO found_type FROM pg_attribute AS a
            WHERE a.attrelid = source AND a.attname = coalesce(named[place], ours[place])
                AND a.attnum > 0 AND NOT a.attisdropped;
        END IF;
        -- Not named and not there is as good as NULL, but for these: who would want new ids without
        -- having said so?
        IF found_type IS NULL AND (named[place] <> '' OR ours[place] = 'email'
            OR ours[place] = 'id' AND named[place] IS NULL)
        THEN
            RAISE EXCEPTION '% has no column %', relation,
                quote_ident(coalesce(named[place], ours[place])) USING
                ERRCODE = 'undefined_column',
                HINT = format('Say which column it is: %s => ''NAME''.', ours[place])
                    || CASE WHEN ours[place] = 'id' THEN ' With id => '''' ids are made.'
                    ELSE '' END;
        END IF;
        IF ours[place] = 'id' AND found_type::oid IN (20, 21, 23, 1700) THEN
            RAISE EXCEPTION 'column % of % is a number, and the id of a user is a uuid',
                quote_ident(coalesce(named[place], ours[place])), relation USING
                ERRCODE = 'datatype_mismatch',
                HINT = 'Name a column that holds uuids; or id => '''' has ids made, and the '
                    'address tells who is there already.';
        END IF;
        has_id := has_id OR ours[place] = 'id' AND found_type IS NOT NULL;
        expressions := expressions || CASE
            WHEN found_type IS NULL THEN defaults[place]
            WHEN ours[place] = 'status' AND found_type = 'boolean'::regtype THEN
                format('CASE WHEN s.%I THEN ''active'' WHEN NOT s.%I THEN ''disabled'' ELSE %s END',
                    coalesce(named[place], ours[place]), coalesce(named[place], ours[place]),
                    defaults[place])
            -- By way of text: citext, enums and uuids kept as text are all taken.
            ELSE format('coalesce(s.%I::text::%s, %s)',
                coalesce(named[place], ours[place]), types[place], defaults[place])
        END;
    END LOOP;

    PERFORM set_config('walrelay.user_events', 'off', true);
    -- One statement, one snapshot: what the counts say adds up.
    EXECUTE format($query$
        WITH source AS MATERIALIZED (
            SELECT %s AS id, %s AS email, %s AS display_name, %s AS status, %s AS tenant_id,
                %s AS created_at, %s AS updated_at
            FROM %s AS s
        ), fit AS (
            SELECT * FROM source WHERE btrim(source.email) <> ''
        ), added AS (
            INSERT INTO identity.users AS u (
                id, email, display_name, status, tenant_id, created_at, updated_at
            )
            SELECT fit.id, fit.email, nullif(fit.display_name, ''), fit.status, fit.tenant_id,
                fit.created_at, fit.updated_at
            FROM fit ORDER BY fit.created_at, fit.id
            ON CONFLICT DO NOTHING
            RETURNING u AS person
        ), told AS (
            SELECT CASE WHEN $1 THEN identity.emit_user_event('UserCreated', added.person) END
                AS event_id
            FROM added
        ), sums AS (
            SELECT
                (SELECT count(*) FROM source) AS source_rows,
                (SELECT count(*) FROM fit) AS fit_rows,
                (SELECT count(*) FROM told) AS imported,
                (SELECT count(told.event_id) FROM told) AS events,
                -- Neither there before nor now: somebody else in the tenant has the address.
                (SELECT count(*) FROM fit WHERE $2
                    AND NOT EXISTS (SELECT FROM identity.users AS u WHERE u.id = fit.id)
                    AND NOT EXISTS (SELECT FROM added WHERE (added.person).id = fit.id)
                ) AS address_taken
        )
        SELECT
            sums.source_rows, sums.imported, sums.fit_rows - sums.imported - sums.address_taken,
            sums.address_taken, sums.source_rows - sums.fit_rows, sums.events
        FROM sums
    $query$,
        expressions[1], expressions[2], expressions[3], expressions[4], expressions[5],
        expressions[6], expressions[7], relation)
    INTO source_rows, imported, already_there, address_taken, without_address, events
    USING emit, has_id;
    PERFORM set_config('walrelay.user_events', left_out, true);
END
$walrelay$;

COMMENT ON FUNCTION identity.migrate_users IS
    'walrelay: imports users from a table or view, each once; counts what became of its rows';
