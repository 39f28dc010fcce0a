-- Printed by `walrelay check`: ends a session; its transaction is rolled back.
SELECT pg_terminate_backend({pid});
