-- Whether a row that {mine} is true of remembers that a relay has parked it. Reads only; by the
-- partial index on next_attempt_at.
SELECT EXISTS (
    SELECT FROM {table} AS o WHERE o.next_attempt_at IS NOT NULL AND o.wal_position IS NOT NULL
        AND {mine}
) AS has_parked
