-- A condition, not a statement: whether a row is old enough to go. $1: every transaction before it
-- had ended when WAL was written that the slot has confirmed since. A row's xmin is that of its
-- last change; ids are compared as PostgreSQL does, modulo 2^32, and what is older than that can
-- tell is taken for new. $2: the retention, in seconds. $3: the same as $1, and as long ago as the
-- retention, for rows that do not say how old they are; NULL: nothing is known to be that old.
($1::int8 - o.xmin::text::int8) & 4294967295 BETWEEN 1 AND 2147483647
    AND CASE
        WHEN coalesce(o.published_at, o.created_at) IS NOT NULL THEN
            coalesce(o.published_at, o.created_at)
                < pg_catalog.now() - pg_catalog.make_interval(secs => $2::float8)
        ELSE ($3::int8 - o.xmin::text::int8) & 4294967295 BETWEEN 1 AND 2147483647
    END
