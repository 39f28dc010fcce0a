-- A condition, not a statement: which rows a replay out of the table means. $1 ids and $2 event
-- ids, $3 since, $4 until, $5 types, $6 aggregate; NULL: any. Sessions are in UTC, as are columns
-- without a zone.
($1::int8[] IS NULL OR o.id = ANY ($1::int8[]) OR {event_ids})
    AND ($3::text IS NULL OR o.created_at >= $3::text::timestamptz)
    AND ($4::text IS NULL OR o.created_at <= $4::text::timestamptz)
    AND ($5::text[] IS NULL OR o.event_type::text = ANY ($5::text[]))
    AND ($6::text IS NULL OR {aggregate})
