-- How many of the rows $1 have been published since $2. Reads only.
SELECT pg_catalog.count(*) AS republished
FROM {table} AS o
WHERE o.id = ANY ($1::int8[]) AND o.published AND o.published_at > $2::text::timestamptz
