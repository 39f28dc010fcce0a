-- One setup at a time on this database; the lock ends with the session. No other lock.
SELECT pg_catalog.pg_advisory_lock(1635018098)
