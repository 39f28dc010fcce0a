-- The next rows of the cursor of declare_rows.sql. No further locks.
FETCH FORWARD 1000 FROM walrelay_rows
