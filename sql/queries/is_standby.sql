-- Whether this server is a standby. Asked on either connection.
SELECT pg_catalog.pg_is_in_recovery()
