-- What tells this PostgreSQL cluster from any other; its copies share it. Reads only.
SELECT system_identifier::text AS system_id FROM pg_catalog.pg_control_system()
