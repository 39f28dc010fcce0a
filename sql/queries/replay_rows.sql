-- The next rows that a replay means, behind the id $7 and up to $8. Each page has a view of its
-- own: a slow replay holds up no vacuum.
SELECT {list}
FROM {table} AS o
WHERE o.id > $7::int8 AND o.id <= $8::int8 AND {filter}
ORDER BY o.id
LIMIT 1000
