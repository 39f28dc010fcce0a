-- How far the numbers of {table} have got, as row_number.sql and row_number_index.sql make them:
-- whether new rows get one, whether a whole index begins with the column $1, and whether the index
-- $2 was left unfinished. What is in partitions is for PostgreSQL to finish. Reads only; no locks.
SELECT
    EXISTS (
        SELECT FROM pg_catalog.pg_attrdef AS d
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = {table_text}::pg_catalog.regclass AND a.attname = $1
    ) AS has_default,
    EXISTS (
        SELECT FROM pg_catalog.pg_index AS x
        JOIN pg_catalog.pg_attribute AS a
            ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
        JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
        JOIN pg_catalog.pg_am AS m ON m.oid = i.relam AND m.amname = 'btree'
        WHERE x.indrelid = {table_text}::pg_catalog.regclass AND a.attname = $1
            AND x.indisvalid AND x.indpred IS NULL
    ) AS has_index,
    EXISTS (
        SELECT FROM pg_catalog.pg_index AS x
        JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
        WHERE x.indrelid = {table_text}::pg_catalog.regclass AND i.relname = $2
            AND i.relkind = 'i' AND NOT x.indisvalid
    ) AS is_unfinished
