-- Begins a round in which order is kept: waits for the turn to claim rows of the outbox (key
-- {table_key} of the relay's own turns) among all pollers, first come, first served, for as long as
-- lock_timeout allows; then leaves word, until the transaction ends, of the run of Redis ({run})
-- that the round delivers to. The turn is the session's: a rollback does not give it back.
BEGIN;
SELECT pg_catalog.pg_advisory_lock(1635018100, {table_key});
SELECT pg_catalog.pg_advisory_xact_lock_shared({round_key});
