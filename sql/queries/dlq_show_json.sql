-- The rows with the ids $1 or the event ids $2, each as one JSON object. Reads only. The payload is
-- in there: somebody has asked for it.
SELECT pg_catalog.row_to_json(o)::text AS document
FROM {table} AS o
WHERE o.id = ANY ($1::int8[]) OR {event_ids}
ORDER BY o.id
