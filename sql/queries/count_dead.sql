-- How many rows that {mine} is true of are dead, where an index makes that cheap; NULL where none
-- does. Reads only.
SELECT CASE WHEN EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
    WHERE i.indrelid = {table_text}::regclass
        AND pg_catalog.pg_get_expr(i.indpred, i.indrelid) LIKE '%dead_lettered_at IS NOT NULL%'
) THEN (
    SELECT pg_catalog.count(*) FROM {table} WHERE dead_lettered_at IS NOT NULL AND NOT published
        AND {mine}
) END AS dead
