-- Whether the role $1 exists. Reads only; no locks.
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS is_there
