-- A condition, not a statement: whether a row's event is done with. What bears no mark because rows
-- are kept as they are is done with unless it was set aside. What stands for a column that the
-- outbox does not have is filled in as its absence.
CASE
    WHEN o.published THEN true
    ELSE {is_kept} AND o.next_attempt_at IS NULL AND o.dead_lettered_at IS NULL
END
