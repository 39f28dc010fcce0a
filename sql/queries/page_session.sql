-- What a session needs besides that reads rows in the order of their ids, a part at a time: any
-- plan that sorts would read all that is left for each part, and where nobody has analysed the
-- table yet PostgreSQL takes such a plan for the cheapest. No locks.
SET enable_sort = off;
SET enable_bitmapscan = off;
