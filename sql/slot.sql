-- The replication slot {slot}, for pgoutput. From now on PostgreSQL keeps the WAL that the relay
-- has not confirmed: a slot that nobody reads fills the disk (max_slot_wal_keep_size bounds it).
-- Repeating it changes nothing. Needs REPLICATION; waits for the transactions that are running.
-- From PostgreSQL 17 on it is a failover slot: synchronised to standbys that have
-- sync_replication_slots = on. A slot does not send what was committed before it: where {table}
-- holds unpublished rows and they are to be published, or where slots of another number of shards
-- are there, none is made here. `walrelay run` makes it, with a snapshot.
DO $walrelay$
BEGIN
    -- To wait for open transactions is to wait for their locks.
    PERFORM pg_catalog.set_config('lock_timeout', '0', true);
    PERFORM pg_catalog.pg_advisory_xact_lock(1635018098);
    IF EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = {slot}) THEN
        RETURN;
    END IF;
    -- Lines of another number of shards: what they send this one would send again.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_replication_slots
        WHERE database = current_database() AND slot_name ~ {others}
    ) THEN
        RETURN;
    END IF;
    IF pg_catalog.current_setting('server_version_num')::int4 >= 170000 THEN
        PERFORM pg_catalog.pg_create_logical_replication_slot(
            {slot}, 'pgoutput', false, false, true);
    ELSE
        PERFORM pg_catalog.pg_create_logical_replication_slot({slot}, 'pgoutput');
    END IF;
    -- Looked at only now: what is committed from here on the slot sends.
    IF {publishes_backlog} THEN
        IF EXISTS (
            SELECT FROM {table} AS o
            WHERE o.published IS NOT TRUE AND o.next_attempt_at IS NULL
                AND o.dead_lettered_at IS NULL
        ) THEN
            PERFORM pg_catalog.pg_drop_replication_slot({slot});
        END IF;
    END IF;
END
$walrelay$;
