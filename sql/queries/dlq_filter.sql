-- A condition, not a statement: which rows `walrelay dlq` means. $1: the stream of rows without a
-- topic. $2 stream, $3 type, $4 aggregate; $5 and $6: dead for at least, at most so many seconds.
-- NULL: any. Values are compared as text, whatever their types.
($2::text IS NULL OR coalesce(o.topic::text, {own_stream}, $1::text) = $2)
    AND ($3::text IS NULL OR o.event_type::text = $3)
    AND ($4::text IS NULL OR o.aggregate_id::text = $4)
    AND ($5::float8 IS NULL
        OR o.dead_lettered_at <= pg_catalog.now() - pg_catalog.make_interval(secs => $5))
    AND ($6::float8 IS NULL
        OR o.dead_lettered_at >= pg_catalog.now() - pg_catalog.make_interval(secs => $6))
