-- What the server's clock says now, in seconds since 1970. Reads only; no locks.
SELECT EXTRACT(EPOCH FROM pg_catalog.clock_timestamp())::float8 AS seconds
