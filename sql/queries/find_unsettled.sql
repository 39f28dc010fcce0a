-- Which of the events $1 have rows that pollers may still claim. Reads only.
SELECT o.event_id::text AS event_id
FROM {table} AS o
WHERE {event_ids} AND NOT o.published AND o.dead_lettered_at IS NULL
