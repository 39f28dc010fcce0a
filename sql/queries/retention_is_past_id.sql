-- Whether ids had passed $4 so long ago that the first rows behind it are old enough to go: then
-- nobody writes below it any more. $1 to $3 as in retention_ripe.sql. Reads only; walks the primary
-- key.
SELECT EXISTS (
    SELECT FROM (
        SELECT t.xmin, t.* FROM {table} AS t
        WHERE t.{id} >= $4::text::int8
        ORDER BY t.{id}
        LIMIT 500
    ) AS o
    WHERE {ripe}
) AS is_past
