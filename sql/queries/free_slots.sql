-- How many replication slots may still be created. Reads only; no locks.
SELECT
    pg_catalog.current_setting('max_replication_slots')::int8
    - (SELECT count(*) FROM pg_catalog.pg_replication_slots) AS free
