-- How many rows of the outbox meet a condition: a scan of the table. Reads only.
SELECT count(*) AS found FROM {table} AS o WHERE {condition}
