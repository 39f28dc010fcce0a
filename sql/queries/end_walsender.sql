-- Ends the server's process $1: an earlier connection of this relay that PostgreSQL has not noticed
-- to be dead, or the session of another one that is frozen. A role may end processes of its own.
SELECT pg_catalog.pg_terminate_backend($1) AS is_ended
