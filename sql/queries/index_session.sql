-- What a session needs besides that finds few rows, by the indexes there are for them. Where nobody
-- has analysed the table yet (a server that was restored or upgraded) PostgreSQL takes most rows
-- for meant, and would read all of it. No locks.
SET enable_seqscan = off;
