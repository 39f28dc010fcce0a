-- A look at the outbox before rows are claimed. Reads only; no locks of rows. $1: rows up to this
-- id are left out of `first_new`.
--
-- The order of two things matters. `highest` and `first_new` are read in the statement's snapshot,
-- which is taken before it runs; the locks are read while it runs, so later. Hence each transaction
-- that has written, or may yet write, a row with an id up to `highest` (ids come from a sequence,
-- under the lock) has either ended by now, and is visible to whatever looks from now on, for locks
-- are let go of after that; or it is one of `writers`. Prepared transactions have locks and no
-- process: their names begin with -1. Pollers write nothing new: they are left out.
SELECT
    (SELECT max(o.id)::int8 FROM {table} AS o) AS highest,
    (
        SELECT o.id::int8 FROM {table} AS o
        WHERE {is_new} AND o.id > $1
        ORDER BY o.id LIMIT 1
    ) AS first_new,
    EXISTS (SELECT FROM {table} AS o WHERE {is_parked}) AS has_parked,
    ARRAY(
        SELECT DISTINCT l.virtualtransaction
        FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                              WHERE d.datname = pg_catalog.current_database())
            AND l.relation IN (
                SELECT {table_text}::pg_catalog.regclass::oid
                UNION ALL
                SELECT p.relid::oid
                FROM pg_catalog.pg_partition_tree({table_text}::pg_catalog.regclass) AS p
            )
            AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_stat_activity AS a
                WHERE a.pid = l.pid AND a.application_name LIKE 'walrelay%'
            )
    ) AS writers,
    -- Rounds that were delivered to another run of Redis, which may have lost them since.
    EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d
                              WHERE d.datname = pg_catalog.current_database())
            AND l.classid::int8 = ({round_key}::int8 >> 32) & 4294967295
            AND l.objid::int8 <> ({round_key}::int8 & 4294967295)
    ) AS has_foreign_rounds
