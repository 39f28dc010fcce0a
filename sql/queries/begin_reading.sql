-- One view of the database for everything that is read until the end of the session. Vacuum cannot
-- remove rows that this view still sees.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
