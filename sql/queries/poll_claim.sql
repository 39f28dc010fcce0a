-- Claims new rows above $1 and up to $2, at most $3 of them, in order. They stay locked until the
-- transaction ends; rows that others have locked are left to them.
SELECT {list}
FROM {table} AS o
WHERE {is_new} AND o.id > $1 AND o.id <= $2
ORDER BY o.id
LIMIT $3
FOR UPDATE OF o SKIP LOCKED
