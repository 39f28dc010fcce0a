-- The one row $1, which this transaction has claimed, in full.
SELECT {list} FROM {table} AS o WHERE o.id = $1
