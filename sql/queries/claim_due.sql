-- Claims those of the rows $1 that are parked and due still, until the transaction ends. What another
-- session has locked is left to it.
SELECT id::int8 AS id
FROM {table}
WHERE id = ANY ($1)
    AND next_attempt_at <= pg_catalog.clock_timestamp()
    AND NOT published
    AND dead_lettered_at IS NULL
FOR UPDATE SKIP LOCKED
