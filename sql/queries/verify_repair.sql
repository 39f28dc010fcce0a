-- Rows whose entries are missing ($1) become parked rows that are due now, with $3 for a reason:
-- the pollers of a running relay publish them, each once. Only rows that {settled} is true of and
-- that nobody has published since $2, when the search began: of two repairs at once, or with a
-- relay that was faster, each event goes out once. A row that its slot may send again keeps its
-- place in the order of commits, by which the line knows it; the others get none, so that they go
-- out by their ids. Row locks only.
UPDATE {table} AS o
SET
    {unmark},
    {attempts} = 0,
    {started_attempts} = 0,
    {next_attempt_at} = pg_catalog.now(),
    {error_message} = $3,
    {wal_position} = CASE WHEN o.next_attempt_at IS NOT NULL THEN o.wal_position END
WHERE o.id = ANY ($1::int8[])
    AND {settled}
    AND (o.published_at IS NULL OR o.published_at <= $2::text::timestamptz)
