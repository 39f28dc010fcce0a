-- What the relay's SQL session must not inherit from role or database: a statement must see what
-- was committed before it began, must not be cut short, must be durable when it returns, and must
-- not wait for ever behind a row that somebody has locked. No locks.
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET statement_timeout = 0;
-- A claim lasts until Redis is safe.
SET idle_in_transaction_session_timeout = 0;
SELECT pg_catalog.set_config(name, '0', false)
FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout';
SET synchronous_commit = on;
-- Moments and bytes are printed as a replication session prints them.
SET datestyle = 'ISO';
SET timezone = 'UTC';
SET bytea_output = 'hex';
-- Names that the relay puts into SQL text are quoted for this.
SET standard_conforming_strings = on;
-- Whoever writes to the outbox needs the cores more than a relay does.
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SET lock_timeout = '1s';
-- The relay's lock on the table goes with this session: a relay whose machine is gone must not hold
-- it for the hours that the kernel would wait by itself.
SET tcp_keepalives_idle = 30;
SET tcp_keepalives_interval = 10;
SET tcp_keepalives_count = 3;
