-- The ids between which the rows of the outbox are now, and what the clock says. Reads only.
SELECT
    min(o.id)::int8 AS first,
    max(o.id)::int8 AS last,
    pg_catalog.clock_timestamp()::text AS began
FROM {table} AS o
