-- Keeps writers out of a partition, not readers, until the transaction ends. Gives up soon, for
-- whoever comes later waits behind whoever waits already.
SET LOCAL lock_timeout = '50ms';
SET LOCAL statement_timeout = '5s';
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;
