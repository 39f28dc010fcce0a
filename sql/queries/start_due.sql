-- Picks parked rows that are due and counts an attempt as begun, for the process may not live to
-- count its end. Of each lane ({lane}: an aggregate, or a row where order does not matter) only the
-- first rows, all in front of which are picked too. Rows that may have ended the process before are
-- picked by themselves, the fewer the more often that was: $1 is the class to go above (0 never, 1,
-- 2, 3 or more times), $2 the most rows. Past five times nothing is begun: that row is refused.
-- What the slot $3 has not confirmed may be sent again with all that stood before it: it would be
-- behind this then, so this waits. Where there is no such slot nothing does.
-- What was parked beyond the end of this WAL came with a copy from another server: no slot here
-- sends it again, and all that is parked here is younger.
-- Only rows that {mine} is true of: those that this slot sends. Reads all parked rows, by the index
-- on next_attempt_at; locks those picked for this statement.
WITH slot AS MATERIALIZED (
    SELECT pg_catalog.max(pg_catalog.lpad(
        pg_catalog.to_hex((s.confirmed_flush_lsn - '0/0'::pg_lsn)::int8), 16, '0'
    )) AS confirmed
    FROM pg_catalog.pg_replication_slots AS s
    WHERE s.slot_name = $3
),
here AS MATERIALIZED (
    SELECT pg_catalog.lpad(
        pg_catalog.to_hex((pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8), 16, '0'
    ) AS lsn
),
parked AS MATERIALIZED (
    SELECT
        o.id AS id,
        {lane} AS lane,
        coalesce(pg_catalog.left(o.wal_position, 16) COLLATE "C" > here.lsn, false) AS is_foreign,
        CASE
            WHEN pg_catalog.left(o.wal_position, 16) COLLATE "C" > here.lsn THEN o.next_attempt_at
            WHEN o.wal_position COLLATE "C" >= slot.confirmed THEN 'infinity'
            ELSE o.next_attempt_at
        END AS next_attempt_at,
        o.wal_position AS wal_position,
        least(greatest(o.started_attempts - o.attempts, 0), 3) AS class
    FROM {table} AS o, slot, here
    WHERE o.next_attempt_at IS NOT NULL AND NOT o.published AND o.dead_lettered_at IS NULL
        AND {mine}
),
ranked AS (
    SELECT
        id,
        lane,
        pg_catalog.row_number() OVER ahead AS place,
        pg_catalog.max(next_attempt_at) OVER ahead <= pg_catalog.now() AS is_due,
        pg_catalog.max(class) OVER ahead AS class,
        pg_catalog.first_value(class) OVER ahead AS class_of_head
    FROM parked
    WINDOW ahead AS (
        PARTITION BY lane
        -- Born parked by the application: behind whatever is in the order of commits.
        ORDER BY
            is_foreign DESC,
            wal_position COLLATE "C" NULLS LAST,
            CASE WHEN wal_position IS NULL THEN next_attempt_at END,
            id
        ROWS UNBOUNDED PRECEDING
    )
),
due AS MATERIALIZED (
    SELECT id, lane, place, class FROM ranked
    WHERE is_due AND class = class_of_head AND class > $1
),
picked AS MATERIALIZED (
    SELECT o.id AS id, due.lane, due.place, greatest(o.started_attempts - o.attempts, 0) AS deaths
    FROM due
    JOIN {table} AS o ON o.id = due.id
    WHERE due.class = (SELECT pg_catalog.min(class) FROM due)
        AND o.next_attempt_at <= pg_catalog.now()
        AND NOT o.published
        AND o.dead_lettered_at IS NULL
    ORDER BY due.place, o.id
    LIMIT (
        SELECT CASE pg_catalog.min(class)
            WHEN 0 THEN $2 WHEN 1 THEN greatest($2 / 20, 1) WHEN 2 THEN 10 ELSE 1
        END
        FROM due
    )
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE {table} AS o
SET {started_attempts} = o.started_attempts + CASE WHEN picked.deaths < 5 THEN 1 ELSE 0 END
FROM picked
WHERE o.id = picked.id
RETURNING
    o.id::int8 AS id,
    picked.lane::text AS lane,
    picked.place::int8 AS place,
    picked.deaths::int8 AS deaths,
    -- Whether there are rows for another turn, of a higher class.
    (SELECT pg_catalog.max(due.class) <> pg_catalog.min(due.class) FROM due) AS has_higher,
    -- As it is stored: enough to see which rows are the large ones.
    pg_catalog.pg_column_size(o.payload)::int8 AS bytes
