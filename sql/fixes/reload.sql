-- Printed by `walrelay check`: a setting that a reload brings into force.
ALTER SYSTEM SET {name} = {value};
SELECT pg_reload_conf();
