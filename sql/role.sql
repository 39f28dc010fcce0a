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
GRANT UPDATE ({written}) ON {table} TO {role};
-- To put a parked event back whose row was deleted.
GRANT INSERT ON {table} TO {role};
-- To number the row of a parked message.
DO $walrelay$
DECLARE
    numbers text;
BEGIN
    SELECT pg_catalog.pg_get_serial_sequence({table_text}, a.attname) INTO numbers
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = {table_text}::pg_catalog.regclass AND a.attname = 'id'
        AND NOT a.attisdropped AND a.attidentity = '';
    IF numbers IS NOT NULL THEN
        EXECUTE pg_catalog.format('GRANT USAGE ON SEQUENCE %s TO %I', numbers, {role_text});
    END IF;
END
$walrelay$;
-- after_publish = delete, and retention.
GRANT DELETE ON {table} TO {role};
