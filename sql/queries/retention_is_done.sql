-- Whether every row of a partition is settled and old enough to go. $1 to $3 as in
-- retention_ripe.sql. Reads only; ends at the first row that must stay.
SELECT NOT EXISTS (
    SELECT FROM {table} AS o WHERE (({ripe}) AND ({settled})) IS NOT TRUE
) AS is_done
