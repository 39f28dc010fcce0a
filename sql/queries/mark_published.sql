-- Marks rows whose entries are safely in Redis. $1: their ids. Touches each row once; repeating it
-- is harmless. Row locks only; no indexed column changes, so the update stays HOT while the page
-- has room.
UPDATE {table} SET published = true, published_at = pg_catalog.now() WHERE id = ANY ($1)
