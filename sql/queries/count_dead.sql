-- How many rows that {mine} is true of are dead, where an index makes that cheap; NULL where none
-- does. Reads only.
SELECT CASE WHEN EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indrelid = {table_text}::regclass
        AND pg_catalog.pg_get_expr(i.indpred, i.indrelid) LIKE {dead_letters}
) THEN (
    SELECT pg_catalog.count(*) FROM {table} AS o
    WHERE o.dead_lettered_at IS NOT NULL AND NOT o.published AND {mine}
) END AS dead
