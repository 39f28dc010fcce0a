-- Claims those of the rows $1 that are parked and due still, until the transaction ends. What
-- another session has locked is left to it.
SELECT o.id::int8 AS id
FROM {table} AS o
WHERE o.id = ANY ($1)
    AND o.next_attempt_at <= pg_catalog.clock_timestamp()
    AND NOT o.published
    AND o.dead_lettered_at IS NULL
FOR UPDATE SKIP LOCKED
