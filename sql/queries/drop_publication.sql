-- Drops the publication {publication}. Needs its ownership.
DROP PUBLICATION IF EXISTS {publication}
