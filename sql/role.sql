-- The role {role} with the least that `walrelay run` needs of the table. Repeating it changes
-- nothing. Needs CREATEROLE. Set its password yourself: \password {role}
DO $walrelay$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {role_text}) THEN
        CREATE ROLE {role} LOGIN;
    END IF;
END
$walrelay$;
-- To find the rows that are to be marked.
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT ON {table} TO {role};
-- after_publish = mark sets the first two; parking, retries and dead letters the others.
GRANT UPDATE (
    published, published_at, attempts, started_attempts, next_attempt_at, error_message,
    dead_lettered_at, wal_position
) ON {table} TO {role};
-- To put a parked event back whose row was deleted.
GRANT INSERT ON {table} TO {role};
-- after_publish = delete, and retention.
GRANT DELETE ON {table} TO {role};
