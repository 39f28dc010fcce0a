-- The publication {publication}: INSERTs of one shard of the outbox, those of partitions under the
-- root's name. Repeating it changes nothing. Needs PostgreSQL 15, CREATE on the database and the
-- ownership of the table; takes SHARE UPDATE EXCLUSIVE on the table, so writers go on.
DO $walrelay$
BEGIN
    -- Two relays may start at once; the lock ends with this statement.
    PERFORM pg_catalog.pg_advisory_xact_lock(1635018098);
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = {publication_text}) THEN
        -- An error where the column's type has no hash: better here than in a walsender.
        PERFORM pg_catalog.hash_record(ROW((SELECT {aggregate_id} FROM {table} LIMIT 1)));
        CREATE PUBLICATION {publication} FOR TABLE {table}
            WHERE ({condition})
            WITH (publish = 'insert', publish_via_partition_root = true);
    END IF;
END
$walrelay$;
