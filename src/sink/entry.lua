-- How an event becomes an entry: stands before publish.lua and deliver.lua. An event is `stride`
-- values: its position, then its field values. Only values travel; the field names live here.

-- Where an event's id stands, behind its position.
local function id_place(format) return format == 'data' and 2 or 1 end

-- Returns a function that adds the event whose position is at argv[i], and hands back the reply or
-- the error.
local function adder(stream, argv, format)
  local pcall = redis.pcall
  if format == 'data' then
    return function(i) return pcall('XADD', stream, '*', 'data', argv[i + 1]) end
  end
  local function plain(i)
    return pcall('XADD', stream, '*', 'event_id', argv[i + 1], 'event_type', argv[i + 2],
      'topic', argv[i + 3], 'schema_version', argv[i + 4], 'occurred_at', argv[i + 5],
      'tenant_id', argv[i + 6], 'aggregate_id', argv[i + 7], 'aggregate_type', argv[i + 8],
      'payload', argv[i + 9])
  end
  if format ~= 'traced' then return plain end
  -- Two more values that most events do not have; an empty one is left out.
  return function(i)
    local correlation_id, traceparent = argv[i + 10], argv[i + 11]
    if correlation_id == '' and traceparent == '' then return plain(i) end
    local entry = {'XADD', stream, '*', 'event_id', argv[i + 1], 'event_type', argv[i + 2],
      'topic', argv[i + 3], 'schema_version', argv[i + 4], 'occurred_at', argv[i + 5],
      'tenant_id', argv[i + 6], 'aggregate_id', argv[i + 7], 'aggregate_type', argv[i + 8],
      'payload', argv[i + 9]}
    local function append(field, value)
      if value ~= '' then
        entry[#entry + 1] = field
        entry[#entry + 1] = value
      end
    end
    append('correlation_id', correlation_id)
    append('traceparent', traceparent)
    return pcall(unpack(entry))
  end
end

