-- Marks rows whose entries are safely in Redis. $1: their ids. Touches each row once; repeating it
-- is harmless. Row locks only; no indexed column changes, so the update stays HOT while the page
-- has room.
UPDATE {table} AS o SET {mark} WHERE o.id = ANY ($1)
