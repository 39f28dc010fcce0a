-- What would end a session whose transaction stays open for hours without a statement. No locks.
-- Some of these settings came with later versions.
SELECT pg_catalog.set_config(name, '0', false)
FROM pg_catalog.pg_settings
WHERE name IN (
    'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout'
)
