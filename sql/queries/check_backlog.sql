-- Whether {table} holds rows that nobody has published: a new slot does not send them, and takes
-- a second slot to publish them first. Reads only, in the worst case the whole table.
SELECT EXISTS (SELECT FROM {table} AS o WHERE {unpublished}) AS has_backlog
