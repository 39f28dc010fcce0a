-- What a look at a server must not do: write, wait long for a lock, or read a large table to its
-- end; {milliseconds} is the bound. Behind session.sql, whose other settings stay. No locks.
SET default_transaction_read_only = on;
SET statement_timeout = {milliseconds};
SET lock_timeout = {milliseconds}
