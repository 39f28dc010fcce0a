-- The next $3 rows behind the id $1 and up to $2, and what has become of each; {in_range} asks for
-- the moments $4 and $5. Reads only, by the primary key; the view of the database ends with the
-- statement, so VACUUM is held back for no longer than a page takes.
SELECT
    {list},
    {state} AS state,
    ({retried}) IS TRUE AS is_retried,
    ({in_range}) IS TRUE AS is_in_range
FROM {table} AS o
WHERE o.id > $1::int8 AND o.id <= $2::int8
ORDER BY o.id
LIMIT $3
