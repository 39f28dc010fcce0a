-- Lets the role {role} stream the WAL through a slot, as mode = wal does. Repeating it changes
-- nothing. Needs CREATEROLE and REPLICATION, before PostgreSQL 16 a superuser.
DO $walrelay$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_roles WHERE rolname = {role_text} AND rolreplication
    ) THEN
        ALTER ROLE {role} REPLICATION;
    END IF;
END
$walrelay$;
