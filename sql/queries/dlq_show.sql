-- Every column of the rows with the ids $1 or the event ids $2, one a line, as text. Reads only.
-- The payload is among them: somebody has asked for it.
SELECT wanted.id::text AS id, field.key AS name, field.value AS value
FROM (
    SELECT o.id AS id, pg_catalog.row_to_json(o) AS document
    FROM {table} AS o
    WHERE o.id = ANY ($1::int8[]) OR {event_ids}
) AS wanted
CROSS JOIN LATERAL pg_catalog.json_each_text(wanted.document) WITH ORDINALITY
    AS field (key, value, place)
ORDER BY wanted.id, field.place
