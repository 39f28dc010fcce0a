-- For a session that counts rows: what takes longer is not worth the load, and nothing is changed.
-- No locks.
SET statement_timeout = '2s';
SET default_transaction_read_only = on;
