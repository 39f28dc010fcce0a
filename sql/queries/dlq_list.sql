-- The dead rows that the filter means, those that died first at the head, $7 at most, and how many
-- there are in all. Reads only; scans the table, no payload among it.
SELECT
    o.id::text AS id,
    o.event_id::text AS event_id,
    o.event_type::text AS event_type,
    coalesce(o.topic::text, {own_stream}, $1::text) AS stream,
    o.aggregate_id::text AS aggregate_id,
    o.attempts::int8 AS attempts,
    pg_catalog.to_char(
        o.dead_lettered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
    ) AS since,
    o.error_message::text AS error,
    pg_catalog.count(*) OVER () AS total
FROM {table} AS o
WHERE o.dead_lettered_at IS NOT NULL AND NOT o.published AND {filter}
ORDER BY o.dead_lettered_at, o.id
LIMIT $7
