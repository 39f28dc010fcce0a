-- Seconds since the WAL segment of each of the positions $1 was written last: nothing in it is
-- younger. Positions whose segment is gone, or of an earlier timeline, are left out. Reads only;
-- needs pg_monitor.
SELECT
    wanted.lsn,
    extract(epoch FROM pg_catalog.now() - w.modification)::float8 AS seconds
FROM pg_catalog.unnest($1::text[]) AS wanted (lsn)
JOIN pg_catalog.pg_ls_waldir() AS w ON w.name = pg_catalog.pg_walfile_name(wanted.lsn::pg_lsn)
