-- The streams that the newest rows of {table} name, at most twenty. Reads only, by the index on id.
SELECT DISTINCT r.topic
FROM (SELECT {topic} AS topic FROM {table} AS o ORDER BY o.id DESC LIMIT 1000) AS r
WHERE r.topic IS NOT NULL AND r.topic <> ''
ORDER BY r.topic
LIMIT 20
