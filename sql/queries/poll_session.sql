-- What a poller's session needs besides. Rows are claimed in the order of their ids, a part at a
-- time: any plan that sorts would read the whole backlog for each part. No locks.
SET enable_sort = off;
SET enable_bitmapscan = off;
