-- The aggregates with events that a relay has parked: what is new of them goes behind. Reads only.
SELECT DISTINCT o.aggregate_id::text AS aggregate_id FROM {table} AS o WHERE {is_parked}
