-- The role of this session, and what it may do in this database and in schema $1. Reads only; no
-- locks.
SELECT
    r.rolname::text AS role,
    (r.rolreplication OR r.rolsuper) AS may_replicate,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create,
    COALESCE((
        SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
        FROM pg_catalog.pg_namespace AS n WHERE n.nspname = $1
    ), true) AS may_use_schema
FROM pg_catalog.pg_roles AS r
WHERE r.rolname = current_user
