-- Of the rows that {mine} is true of: how many are parked, how many of them are due, and in how
-- many seconds the next one is that waits behind no other of its lane ({lane}, as in
-- start_due.sql). Reads only, by the index on next_attempt_at.
WITH here AS MATERIALIZED (
    SELECT pg_catalog.lpad(
        pg_catalog.to_hex((pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8), 16, '0'
    ) AS lsn
)
SELECT
    pg_catalog.count(*) AS parked,
    pg_catalog.count(*) FILTER (WHERE o.next_attempt_at <= pg_catalog.now()) AS due,
    (
        -- Not the difference of the moments: of 'infinity' there is none, and for ever is long.
        SELECT pg_catalog.date_part('epoch', pg_catalog.min(head.next_attempt_at))
            - pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
        FROM (
            SELECT DISTINCT ON ({lane}) o.next_attempt_at AS next_attempt_at
            FROM {table} AS o, here
            WHERE o.next_attempt_at IS NOT NULL AND NOT o.published AND o.dead_lettered_at IS NULL
                AND {mine}
            ORDER BY
                {lane},
                -- Of another server's history, as in start_due.sql.
                coalesce(pg_catalog.left(o.wal_position, 16) COLLATE "C" > here.lsn, false) DESC,
                o.wal_position COLLATE "C" NULLS LAST,
                CASE WHEN o.wal_position IS NULL THEN o.next_attempt_at END,
                o.id
        ) AS head
    )::float8 AS seconds
FROM {table} AS o
WHERE o.next_attempt_at IS NOT NULL AND NOT o.published AND o.dead_lettered_at IS NULL
    AND {mine}
