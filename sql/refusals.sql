    -- What could never be published: for emit_event and emit_message alike.
    IF coalesce(btrim(event_type, E' \t\r\n'), '') = '' THEN
        RAISE EXCEPTION 'the event has no event_type' USING
            ERRCODE = 'invalid_parameter_value', HINT = 'Say what happened, such as UserCreated.';
    END IF;
    IF aggregate_id IS NULL THEN
        RAISE EXCEPTION 'the event has no aggregate_id' USING
            ERRCODE = 'null_value_not_allowed',
            HINT = 'Say to whom it happened: events with one aggregate_id keep their order.';
    END IF;
    IF payload IS NULL THEN
        RAISE EXCEPTION 'the event has no payload' USING
            ERRCODE = 'null_value_not_allowed',
            HINT = 'An event that says nothing more has the payload {}.';
    END IF;
    -- The control characters of Unicode, as the relay counts them: C0, DEL and C1.
    IF topic = '' OR octet_length(convert_to(topic, 'UTF8')) > 512
        OR topic COLLATE "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    THEN
        RAISE EXCEPTION 'the stream name in topic is empty, longer than 512 bytes or has control '
            'characters' USING
            ERRCODE = 'invalid_parameter_value',
            HINT = 'Name a Redis stream, or leave topic out for the default of the table.';
    END IF;
    -- https://www.w3.org/TR/trace-context/#traceparent-header: an id of zeros is none, ff is no
    -- version, and versions after 00 may say more at the end.
    IF trace COLLATE "C" !~ ('^[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-'
        '[0-9a-f]{2}(-[!-~]*)?$')
        OR trace LIKE 'ff%' OR trace LIKE '00%' AND length(trace) <> 55
    THEN
        RAISE EXCEPTION 'traceparent is not one of W3C Trace Context' USING
            ERRCODE = 'invalid_parameter_value',
            HINT = 'It is VERSION-TRACE_ID-PARENT_ID-FLAGS in lower case hexadecimal digits, such '
                'as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01; or leave it out.';
    END IF;
    -- As the relay counts, but for what a default adds: two ids of 36 bytes, a moment of 25 at
    -- least.
    bytes := 97 + octet_length(convert_to(payload::text, 'UTF8'))
        + octet_length(convert_to(concat(
            event_type, kind, topic, tenant_id, correlation_id, trace, schema_version
        ), 'UTF8'));
    IF bytes > bytes_max THEN
        RAISE EXCEPTION 'the event has % bytes, max_event_bytes is %', bytes, bytes_max USING
            ERRCODE = 'program_limit_exceeded',
            HINT = 'Put a reference into the payload; or raise max_event_bytes for the relay, and '
                'repeat walrelay setup with that.';
    END IF;
