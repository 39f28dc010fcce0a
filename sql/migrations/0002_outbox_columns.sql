-- What the relay uses of an outbox that was there before it. Every column is nullable or has a
-- constant default, so that no row is rewritten. Repeating it changes nothing. Takes ACCESS
-- EXCLUSIVE on the table for some milliseconds, and gives up after five seconds rather than make
-- writers queue behind it.
SET lock_timeout = '5s';
ALTER TABLE {table}
    ADD COLUMN IF NOT EXISTS published boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS next_attempt_at timestamptz,
    ADD COLUMN IF NOT EXISTS published_at timestamptz,
    ADD COLUMN IF NOT EXISTS error_message text,
    ADD COLUMN IF NOT EXISTS topic text,
    ADD COLUMN IF NOT EXISTS tenant_id uuid,
    ADD COLUMN IF NOT EXISTS correlation_id text,
    ADD COLUMN IF NOT EXISTS traceparent text,
    ADD COLUMN IF NOT EXISTS schema_version text,
    ADD COLUMN IF NOT EXISTS dead_lettered_at timestamptz,
    ADD COLUMN IF NOT EXISTS started_attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS wal_position text COLLATE "C";
RESET lock_timeout;
