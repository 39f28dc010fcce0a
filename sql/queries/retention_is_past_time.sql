-- Whether a moment ($1) is longer ago than the retention ($2, seconds). Reads only; no locks.
SELECT
    $1::text::timestamptz <= pg_catalog.now() - pg_catalog.make_interval(secs => $2::float8)
        AS is_past
