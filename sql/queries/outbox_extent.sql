-- How many rows the outbox holds, and when the oldest was created: a scan of the table. Reads only.
SELECT
    count(*)::int8 AS rows,
    pg_catalog.to_char(min(o.created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    AS oldest
FROM {table} AS o
