-- One batch for one stream, in one atomic step: fence, chain, skip what is there, add, checkpoint.
--
-- KEYS  stream, checkpoint (a hash: epoch, position, event_id, timeline)
-- ARGV  the events, each `stride` values: its position, then its field values;
--       then six of the batch: format, stride, epoch, position it follows, id of its
--       last event, maxlen (0: no trimming)
-- Reply {entries added, events that were there already}, and where one was refused
--       {.., .., error text}: then all before it are in the stream and in the checkpoint, and it
--       and all behind it are not.
-- Errors FENCED: a newer leader has raised the epoch. GAP: the checkpoint is not where this batch
--       follows. Nothing was written. A lower epoch than ours is a gap as well: Redis came back
--       with older data.
--
-- Positions are fixed-width text, so comparing strings compares positions. Only the field values
-- travel; the field names live here.
local stream, checkpoint = KEYS[1], KEYS[2]
local last = #ARGV
local format, stride = ARGV[last - 5], tonumber(ARGV[last - 4])
local epoch, follows = ARGV[last - 3], ARGV[last - 2]
local events_end = last - 6

local state = redis.call('HMGET', checkpoint, 'epoch', 'position')
local stored, position = state[1] or '0', state[2] or '0000000000000000-00000000'
if tonumber(stored) > tonumber(epoch) then
  return redis.error_reply('FENCED epoch ' .. epoch .. ' is over, the checkpoint has ' .. stored)
end
if stored ~= epoch or position < follows then
  return redis.error_reply('GAP the batch of epoch ' .. epoch .. ' follows ' .. follows ..
    ', the checkpoint has epoch ' .. stored .. ' and ' .. position)
end

local pcall, argv = redis.pcall, ARGV
local added, present, refusal, written = 0, 0, nil, nil

-- Adds the event whose position is at argv[i].
local add
if format == 'data' then
  add = function(i) return pcall('XADD', stream, '*', 'data', argv[i + 1]) end
else
  add = function(i)
    return pcall('XADD', stream, '*', 'event_id', argv[i + 1], 'event_type', argv[i + 2],
      'topic', argv[i + 3], 'schema_version', argv[i + 4], 'occurred_at', argv[i + 5],
      'tenant_id', argv[i + 6], 'aggregate_id', argv[i + 7], 'aggregate_type', argv[i + 8],
      'payload', argv[i + 9])
  end
end
if format == 'traced' then
  -- Two more values that most events do not have; an empty one is left out.
  local plain = add
  add = function(i)
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

for i = 1, events_end, stride do
  if argv[i] <= position then
    present = present + 1
  else
    local reply = add(i)
    if type(reply) == 'table' and reply.err then
      refusal = reply.err
      break
    end
    added = added + 1
    written = i
  end
end

if written then
  local id = argv[last - 1]
  -- Of a batch cut short the last event is not the one named; its id is its first value, or
  -- unknown.
  if refusal then id = format == 'data' and '' or argv[written + 1] end
  redis.call('HSET', checkpoint, 'position', argv[written], 'event_id', id)
  local maxlen = argv[last]
  if maxlen ~= '0' then redis.call('XTRIM', stream, 'MAXLEN', '~', maxlen) end
end
if refusal then return {added, present, refusal} end
return {added, present}
