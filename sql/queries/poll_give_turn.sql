-- Gives the turn to claim rows of the outbox to the next poller.
SELECT pg_catalog.pg_advisory_unlock(1635018100, {table_key});
