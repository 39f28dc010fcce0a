-- Claimed rows whose entries are safely in Redis are published. $1: their ids. A row that a relay
-- has parked stays known as such (next_attempt_at) until its slot cannot send it again, unless $2
-- says that there is no slot. Row locks that the claim holds already.
UPDATE {table} AS o
SET
    {mark},
    {error_message} = NULL,
    {next_attempt_at} = CASE WHEN $2 OR o.wal_position IS NULL THEN NULL ELSE o.next_attempt_at END
WHERE o.id = ANY ($1)
