-- A moment that somebody typed ($1), or one so many seconds ago ($2), as PostgreSQL prints it.
SELECT coalesce(
    pg_catalog.now() - pg_catalog.make_interval(secs => $2::float8), $1::text::timestamptz
)::text AS moment
