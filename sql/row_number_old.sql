-- Numbers the rows of {table} that were there before row_number.sql and that nobody has published,
-- the oldest first, and of one moment in the order in which they lie in the table, mostly that of
-- writing; replay out of the table, verify and retention pass the others over. Row locks on those;
-- repeating it changes nothing.
UPDATE {table} AS o
SET {id} = numbered.number
FROM (
    SELECT found.ctid, found.tableoid, pg_catalog.nextval({sequence_text}) AS number
    FROM (
        SELECT o.ctid, o.tableoid
        FROM {table} AS o
        WHERE o.id IS NULL AND o.published IS NOT TRUE
        ORDER BY o.created_at, o.tableoid, o.ctid
        FOR UPDATE
    ) AS found
) AS numbered
WHERE o.ctid = numbered.ctid AND o.tableoid = numbered.tableoid AND o.id IS NULL;
