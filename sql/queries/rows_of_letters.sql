-- The rows of these events ($1), where they are still there. Reads only.
SELECT {list} FROM {table} AS o WHERE {event_ids}
