-- Whether every transaction in $1 is visible to a snapshot taken now, and so to any later
-- statement. The WAL carries 32 bits of a transaction id; the whole id is the one nearest to the
-- newest, before or behind it: ids that are open at one time are less than 2^31 apart.
SELECT coalesce(bool_and(pg_catalog.txid_visible_in_snapshot(full_id, now_seen)), true) AS visible
FROM (
    SELECT
        now_seen,
        newest + ((short_id - newest + 2147483648) & 4294967295) - 2147483648 AS full_id
    FROM (
        SELECT pg_catalog.txid_current_snapshot() AS now_seen
    ) AS s,
    LATERAL (SELECT pg_catalog.txid_snapshot_xmax(now_seen) AS newest) AS x,
    pg_catalog.unnest($1::int8[]) AS short_id
) AS ids
