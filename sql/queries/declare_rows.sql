-- Rows of the outbox in the order of id, to be fetched some at a time. ACCESS SHARE on the table
-- until the end of the transaction: what rewrites or alters the table waits for it.
DECLARE walrelay_rows NO SCROLL CURSOR FOR
SELECT {list} FROM {table} AS o WHERE {condition} ORDER BY o.id
