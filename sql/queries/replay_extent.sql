-- How many rows a replay means, and their first and last ids: a scan of the table, unless an index
-- serves. Reads only.
SELECT
    count(*)::int8 AS found,
    coalesce(min(o.id), 0)::int8 AS first,
    coalesce(max(o.id), 0)::int8 AS last
FROM {table} AS o
WHERE {filter}
