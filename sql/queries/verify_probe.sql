-- The first row from the id $1 on, and whether it is older than $2 by more than an hour. Reads
-- only, by the primary key.
SELECT
    o.id::int8 AS id,
    (o.created_at < $2::text::timestamptz - interval '1 hour') IS TRUE AS is_before
FROM {table} AS o
WHERE o.id >= $1::int8
ORDER BY o.id
LIMIT 1
