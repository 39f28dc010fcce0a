-- The view is that of {snapshot}, which a replication connection has exported. Must be the first
-- statement of its transaction.
SET TRANSACTION SNAPSHOT {snapshot}
