-- How many rows nobody has published, parked and dead ones left out, and for how many seconds the
-- oldest has been there; o.created_at stands for NULL in a table that does not know. Reads only;
-- may scan the table.
SELECT
    pg_catalog.count(*) AS unpublished,
    pg_catalog.date_part(
        'epoch', pg_catalog.clock_timestamp() - pg_catalog.min(o.created_at)
    )::float8 AS seconds
FROM {table} AS o
WHERE NOT o.published AND o.next_attempt_at IS NULL AND o.dead_lettered_at IS NULL
