-- Drops what that trigger calls; an error where another trigger does so too. Needs its ownership.
DROP FUNCTION IF EXISTS {function}()
