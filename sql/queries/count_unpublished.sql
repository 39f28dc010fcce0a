-- Rows that nobody has published, counted up to a thousand: enough to say "some" or "many". Reads
-- only.
SELECT count(*) AS unpublished
FROM (SELECT FROM {table} AS o WHERE NOT o.published LIMIT 1000) AS unpublished_rows
