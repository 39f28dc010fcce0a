-- The streams that rows of the outbox name; {stream} stands for one row's. Reads only.
SELECT DISTINCT {stream} AS stream FROM {table} AS o WHERE {condition}
