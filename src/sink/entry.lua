-- How an event becomes an entry: stands before publish.lua, deliver.lua and replay.lua. Only values
-- travel; the field names live here, and the topic is the stream's own name. An event is `stride`
-- values. In layout `data`: the entry's one value, then the event's id. In layout `fields` and
-- letters: event_id, occurred_at, aggregate_id, payload, then a value for each letter: E
-- event_type, V schema_version, T tenant_id, A aggregate_type, C correlation_id and traceparent, R
-- topic. What has no letter all events of the batch share: those of E, V, T and A stand once, in
-- that order, behind the events; without C no event has a trace. With R the entry says that it is
-- replayed, and the topic is the one that the event had, whatever stream this is.

-- How many values the events share.
local function shared_values(layout) return layout == 'data' and 0 or 4 end

-- Where an event's id stands, behind its first value.
local function id_place(layout) return layout == 'data' and 1 or 0 end

-- Where the numbers of a position begin: two halves of an LSN, and the ordinal behind a hyphen.
local POSITION_PARTS = {1, 9, 18}

-- Whether position `a` stands before `b`. Positions are fixed-width text, but Lua compares strings
-- by the locale of the server: a Czech one has letters before digits, a Danish one aa behind z.
local function is_before(a, b)
  for _, at in ipairs(POSITION_PARTS) do
    local x, y = tonumber(string.sub(a, at, at + 7), 16), tonumber(string.sub(b, at, at + 7), 16)
    if x ~= y then return x < y end
  end
  return false
end

-- Returns a function that adds the event whose values begin at argv[i], and hands back the reply or
-- the error. `shared` is where the shared values begin.
local function adder(stream, argv, layout, shared)
  local pcall = redis.pcall
  if layout == 'data' then
    return function(i) return pcall('XADD', stream, '*', 'data', argv[i]) end
  end
  local places = 3
  local function place(letter)
    if not string.find(layout, letter, 1, true) then return nil end
    places = places + 1
    return places
  end
  local type_at, version_at, tenant_at, kind_at = place('E'), place('V'), place('T'), place('A')
  local trace_at = place('C')
  -- C is two values.
  if trace_at then places = places + 1 end
  local topic_at = place('R')
  local event_type, version = argv[shared], argv[shared + 1]
  local tenant, kind = argv[shared + 2], argv[shared + 3]
  local function plain(i)
    return pcall('XADD', stream, '*', 'event_id', argv[i],
      'event_type', type_at and argv[i + type_at] or event_type, 'topic', stream,
      'schema_version', version_at and argv[i + version_at] or version,
      'occurred_at', argv[i + 1], 'tenant_id', tenant_at and argv[i + tenant_at] or tenant,
      'aggregate_id', argv[i + 2], 'aggregate_type', kind_at and argv[i + kind_at] or kind,
      'payload', argv[i + 3])
  end
  if not trace_at and not topic_at then return plain end
  -- Values that most events do not have; an empty one is left out.
  return function(i)
    local correlation_id, traceparent = '', ''
    if trace_at then correlation_id, traceparent = argv[i + trace_at], argv[i + trace_at + 1] end
    if not topic_at and correlation_id == '' and traceparent == '' then return plain(i) end
    local entry = {'XADD', stream, '*', 'event_id', argv[i],
      'event_type', type_at and argv[i + type_at] or event_type,
      'topic', topic_at and argv[i + topic_at] or stream,
      'schema_version', version_at and argv[i + version_at] or version,
      'occurred_at', argv[i + 1], 'tenant_id', tenant_at and argv[i + tenant_at] or tenant,
      'aggregate_id', argv[i + 2], 'aggregate_type', kind_at and argv[i + kind_at] or kind,
      'payload', argv[i + 3]}
    local function append(field, value)
      if value ~= '' then
        entry[#entry + 1] = field
        entry[#entry + 1] = value
      end
    end
    append('correlation_id', correlation_id)
    append('traceparent', traceparent)
    append('replayed', topic_at and 'true' or '')
    return pcall(unpack(entry))
  end
end

