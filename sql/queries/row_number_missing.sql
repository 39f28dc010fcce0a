-- Whether there are rows for row_number_old.sql. Reads only; ends at the first.
SELECT EXISTS (
    SELECT FROM {table} AS o WHERE o.id IS NULL AND o.published IS NOT TRUE
) AS is_any
