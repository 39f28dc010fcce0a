-- The dead rows that the filter means, those that died first at the head, $7 at most, and how many
-- there are in all. Reads only; scans the table, no payload among it.
SELECT
    id::text AS id,
    event_id::text AS event_id,
    event_type::text AS event_type,
    coalesce(topic::text, $1::text) AS stream,
    aggregate_id::text AS aggregate_id,
    attempts::int8 AS attempts,
    pg_catalog.to_char(
        dead_lettered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
    ) AS since,
    error_message::text AS error,
    pg_catalog.count(*) OVER () AS total
FROM {table} AS o
WHERE dead_lettered_at IS NOT NULL AND NOT published AND {filter}
ORDER BY dead_lettered_at, o.id
LIMIT $7
