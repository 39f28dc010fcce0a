-- Deletes rows whose entries are safely in Redis. $1: their ids. Row locks only; repeating it is
-- harmless.
DELETE FROM {table} AS o WHERE o.id = ANY ($1)
