-- Looks at the next $5 rows behind the id $4 and deletes those that are settled and old enough. Row
-- locks only, and never one that it has to wait for: a row that somebody holds is left for later.
-- Says how many rows it saw, the last of them, the first that is still too young, and how many it
-- deleted. Walks the primary key; no other index is needed.
WITH seen AS MATERIALIZED (
    SELECT o.id::int8 AS id, ({ripe}) IS TRUE AS is_ripe, ({settled}) IS TRUE AS is_settled
    FROM {table} AS o
    WHERE o.id > $4::int8
    ORDER BY o.id
    LIMIT $5
),
locked AS MATERIALIZED (
    SELECT o.id::int8 AS id
    FROM {table} AS o
    WHERE o.id = ANY (ARRAY(SELECT seen.id FROM seen WHERE is_ripe AND is_settled))
        AND ({ripe}) AND ({settled})
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM {table} AS o
    WHERE o.id = ANY (ARRAY(SELECT locked.id FROM locked)) AND ({ripe}) AND ({settled})
    RETURNING o.id AS id
)
SELECT
    pg_catalog.count(*) AS seen,
    pg_catalog.max(id) AS last,
    pg_catalog.min(id) FILTER (WHERE NOT is_ripe) AS first_young,
    (SELECT pg_catalog.count(*) FROM gone) AS deleted
FROM seen
