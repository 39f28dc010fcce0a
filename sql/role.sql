-- The role {role} with the least that `walrelay run` needs. Repeating it changes nothing. Needs
-- CREATEROLE, and a superuser to give REPLICATION (before PostgreSQL 16 always). Set its password
-- yourself: \password {role}
DO $walrelay$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {role_text}) THEN
        CREATE ROLE {role} LOGIN;
    END IF;
    -- To stream the WAL through a slot.
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_roles WHERE rolname = {role_text} AND rolreplication
    ) THEN
        ALTER ROLE {role} REPLICATION;
    END IF;
END
$walrelay$;
-- To find the rows that are to be marked.
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT ON {table} TO {role};
-- after_publish = mark sets these two and no others.
GRANT UPDATE (published, published_at) ON {table} TO {role};
-- after_publish = delete.
GRANT DELETE ON {table} TO {role};
