-- Printed by `walrelay check`: the table anew in a publication that may have others. Between these
-- nothing is left out: it is one transaction.
BEGIN;
ALTER PUBLICATION {publication} DROP TABLE {table};
ALTER PUBLICATION {publication} ADD TABLE {table}{filter};
COMMIT;
