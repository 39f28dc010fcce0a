-- Which of the events $1 have a row. Reads only.
SELECT o.event_id::text AS event_id FROM {table} AS o WHERE {event_ids}
