-- Drops the trigger that `walrelay setup --notify` installs on {table}. Needs the ownership of the
-- table; takes ACCESS EXCLUSIVE on it until the end of the transaction, and gives up after five
-- seconds rather than make writers queue behind it.
SET LOCAL lock_timeout = '5s';
DROP TRIGGER IF EXISTS walrelay_notify ON {table}
