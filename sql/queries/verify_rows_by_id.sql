-- The rows $1, as in verify_rows.sql. Reads only.
SELECT {list}, {state} AS state, ({retried}) IS TRUE AS is_retried
FROM {table} AS o
WHERE o.id = ANY ($1::int8[])
