-- Whether the functions of schema identity that write events are there, by the comment they bear.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'identity' AND p.proname = 'emit_event'
        AND pg_catalog.obj_description(p.oid, 'pg_proc') LIKE 'walrelay: %'
) AS are_there
