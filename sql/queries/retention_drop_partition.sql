-- Takes a partition that nobody needs out of the outbox and drops it, in the transaction that has
-- looked through it. ACCESS EXCLUSIVE on both for some milliseconds, or nothing after lock_timeout.
ALTER TABLE {outbox} DETACH PARTITION {table};
DROP TABLE {table};
