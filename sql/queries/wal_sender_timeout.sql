-- How long this connection may be silent, in milliseconds (SHOW prints units); 0 is for ever.
SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'
