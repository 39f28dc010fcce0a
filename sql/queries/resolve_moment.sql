-- The moment $1, or where that is NULL the one of $2 seconds ago, by this server's clock. Reads
-- only.
WITH wanted AS (
    SELECT coalesce(
        $1::text::timestamptz, pg_catalog.now() - pg_catalog.make_interval(secs => $2::float8)
    ) AS moment
)
SELECT
    pg_catalog.to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS text,
    (extract(epoch FROM moment) * 1000)::int8 AS millis
FROM wanted
