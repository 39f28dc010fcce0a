-- One batch for one stream, in one atomic step: fence, chain, skip what is there, add, checkpoint.
--
-- KEYS  stream, checkpoint (a hash: epoch, position, event_id, timeline)
-- ARGV  the events, each `stride` values: its position, then its field values;
--       then five of the batch: format, stride, epoch, position it follows, maxlen (0: none)
-- Reply {entries added, events that were there already}, and where one was refused
--       {.., .., error text}: then all before it are in the stream and in the checkpoint, and it
--       and all behind it are not.
-- Errors FENCED: a newer leader has raised the epoch. GAP: the checkpoint is not where this batch
--       follows; a lower epoch than ours is a gap as well: Redis came back with older data.
--       REWOUND: the event at the checkpoint is another one now. With each, nothing was written.
--
-- Stands behind entry.lua. Positions are fixed-width text, so comparing strings compares positions.
local stream, checkpoint = KEYS[1], KEYS[2]
local last = #ARGV
local format, stride = ARGV[last - 4], tonumber(ARGV[last - 3])
local epoch, follows = ARGV[last - 2], ARGV[last - 1]
local events_end = last - 5

local state = redis.call('HMGET', checkpoint, 'epoch', 'position', 'event_id')
local stored, position = state[1] or '0', state[2] or '0000000000000000-00000000'
if tonumber(stored) > tonumber(epoch) then
  return redis.error_reply('FENCED epoch ' .. epoch .. ' is over, the checkpoint has ' .. stored)
end
if stored ~= epoch or position < follows then
  return redis.error_reply('GAP the batch of epoch ' .. epoch .. ' follows ' .. follows ..
    ', the checkpoint has epoch ' .. stored .. ' and ' .. position)
end

local argv, id_at = ARGV, id_place(format)

-- The batch begins with repeats. They are repeats only if the last event that was written comes
-- again, the very same; else PostgreSQL lost its history and uses the same positions anew.
local expected = state[3] or ''
if position > follows and expected ~= '' then
  for i = 1, events_end, stride do
    if argv[i] >= position then
      if argv[i] > position or argv[i + id_at] ~= expected then
        return redis.error_reply('REWOUND another event is at ' .. argv[i] ..
          ' than the one written last, at ' .. position)
      end
      break
    end
  end
end

local add = adder(stream, argv, format)
local added, present, refusal, written = 0, 0, nil, nil
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
  redis.call('HSET', checkpoint, 'position', argv[written], 'event_id', argv[written + id_at])
  local maxlen = argv[last]
  if maxlen ~= '0' then redis.call('XTRIM', stream, 'MAXLEN', '~', maxlen) end
end
if refusal then return {added, present, refusal} end
return {added, present}
