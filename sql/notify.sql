-- Wakes pollers (mode = poll) for each statement that adds rows to {table}: a trigger that notifies
-- channel {channel}. Repeats within a transaction collapse into one notification, and it is sent
-- at commit. Repeating this changes nothing. Takes SHARE ROW EXCLUSIVE on the table for some
-- milliseconds, and gives up after five seconds.
SET lock_timeout = '5s';
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $walrelay$
BEGIN
    PERFORM pg_catalog.pg_notify(TG_ARGV[0], '');
    RETURN NULL;
END
$walrelay$;
DO $walrelay$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_trigger
        WHERE tgrelid = {table_text}::pg_catalog.regclass AND tgname = 'walrelay_notify'
    ) THEN
        CREATE TRIGGER walrelay_notify AFTER INSERT ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION {function}({channel_text});
    END IF;
END
$walrelay$;
RESET lock_timeout;
