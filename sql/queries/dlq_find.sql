-- The rows with the ids $1 or the event ids $2, and what has become of them. Locks them, in the
-- order of their ids, until the transaction ends.
SELECT
    o.id::int8 AS id,
    o.event_id::text AS event_id,
    CASE
        WHEN o.published AND o.dead_lettered_at IS NOT NULL THEN 'discarded'
        WHEN o.published THEN 'published'
        WHEN o.dead_lettered_at IS NOT NULL THEN 'dead'
        WHEN o.next_attempt_at IS NOT NULL THEN 'parked'
        ELSE 'not published yet'
    END AS state
FROM {table} AS o
WHERE o.id = ANY ($1::int8[]) OR {event_ids}
ORDER BY o.id
FOR UPDATE
