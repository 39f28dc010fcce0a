-- Claimed rows whose entries are safely in Redis are published. $1: their ids. A row that a relay
-- has parked stays known as such (next_attempt_at) until its slot cannot send it again, unless $2
-- says that there is no slot. Row locks that the claim holds already.
UPDATE {table}
SET
    published = true,
    published_at = pg_catalog.statement_timestamp(),
    error_message = NULL,
    next_attempt_at = CASE WHEN $2 OR wal_position IS NULL THEN NULL ELSE next_attempt_at END
WHERE id = ANY ($1)
