-- Deletes rows whose entries are safely in Redis. $1: their ids. Row locks only; repeating it is
-- harmless.
DELETE FROM {table} WHERE id = ANY ($1)
