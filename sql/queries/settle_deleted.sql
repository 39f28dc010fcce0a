-- The same with after_publish = delete: of the rows $1 those go at once that no slot can send
-- again; $2 says that there is none at all. The others are marked, and deleted when they can go.
DELETE FROM {table} AS o WHERE o.id = ANY ($1) AND ($2 OR o.wal_position IS NULL)
