-- The rows $1, which are claimed, in that order. Reads only.
SELECT
    {list},
    o.attempts::int8 AS attempts,
    o.started_attempts::int8 AS started_attempts
FROM pg_catalog.unnest($1::int8[]) WITH ORDINALITY AS wanted (id, place)
JOIN {table} AS o ON o.id = wanted.id
ORDER BY wanted.place
