-- Schema identity: users, and the outbox that their events are written to in the same transaction.
-- Repeating it changes nothing; what exists is left as it is. Locks only what it creates.
CREATE SCHEMA IF NOT EXISTS identity;

-- Addresses differ in case only by accident.
CREATE EXTENSION IF NOT EXISTS citext;

CREATE TABLE IF NOT EXISTS identity.users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    email citext NOT NULL,
    display_name text,
    status text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- An address is one person within a tenant, not across tenants.
    CONSTRAINT users_email_is_unique_in_tenant UNIQUE (tenant_id, email),
    CONSTRAINT users_status_is_known CHECK (status IN ('active', 'disabled'))
);

DO $walrelay$
BEGIN
    -- An outbox that is there keeps its shape; 0002 adds the columns that it lacks.
    IF pg_catalog.to_regclass('identity.outbox') IS NULL THEN
        CREATE TABLE identity.outbox (
            id bigserial PRIMARY KEY,
            event_id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
            event_type text NOT NULL,
            aggregate_type text NOT NULL DEFAULT 'user',
            aggregate_id uuid NOT NULL,
            payload jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            published boolean NOT NULL DEFAULT false,
            attempts integer NOT NULL DEFAULT 0,
            next_attempt_at timestamptz,
            published_at timestamptz,
            error_message text,
            -- The Redis stream; NULL means the relay's stream_name.
            topic text DEFAULT 'identity.user.v1',
            tenant_id uuid,
            correlation_id text,
            traceparent text,
            schema_version text,
            dead_lettered_at timestamptz,
            -- Attempts that were begun; `attempts` counts those that ended with a refusal.
            started_attempts integer NOT NULL DEFAULT 0,
            -- Of an event that a relay has parked: where it stands in the order of commits.
            wal_position text COLLATE "C",
            -- Redis would take an empty key, and nobody would ever find it.
            CONSTRAINT outbox_topic_is_not_empty CHECK (topic <> '')
        )
        -- Every row is updated once, when it is marked. With half of each page free that update is
        -- HOT: it stays in the page and touches no index. For the same reason no index here may
        -- cover published or published_at.
        WITH (fillfactor = 50);

        -- What is parked or was until lately; empty in good times.
        CREATE INDEX outbox_next_attempt_at ON identity.outbox (next_attempt_at)
            WHERE next_attempt_at IS NOT NULL;
        -- What is dead: to be counted, listed and revived.
        CREATE INDEX outbox_dead_lettered_at ON identity.outbox (dead_lettered_at)
            WHERE dead_lettered_at IS NOT NULL;
    END IF;
END
$walrelay$;
