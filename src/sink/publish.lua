-- One batch for one stream, in one atomic step: fence, chain, skip what is there, add, checkpoint.
--
-- KEYS  stream, checkpoint (a hash: epoch, position, event_id, timeline)
-- ARGV  the events and what they share, as in entry.lua;
--       then six of the batch: positions of the events, layout, stride, epoch, position it follows,
--       maxlen (0: none)
-- Reply {entries added, events that were there already}, and where one was refused
--       {.., .., error text}: then all before it are in the stream and in the checkpoint, and it
--       and all behind it are not.
-- Errors FENCED: a newer leader has raised the epoch. GAP: the checkpoint is not where this batch
--       follows; a lower epoch than ours is a gap as well: Redis came back with older data.
--       REWOUND: the event at the checkpoint is another one now. With each, nothing was written.
--
-- Stands behind entry.lua. Positions are fixed-width text; they rise, and stand behind one another
-- in one value: most are never looked at.
local stream, checkpoint = KEYS[1], KEYS[2]
local argv, last = ARGV, #ARGV
local positions, layout, stride = argv[last - 5], argv[last - 4], tonumber(argv[last - 3])
local epoch, follows = argv[last - 2], argv[last - 1]
local shared = last - 5 - shared_values(layout)
local events, id_at = (shared - 1) / stride, id_place(layout)

local function position_of(n) return string.sub(positions, 25 * n - 24, 25 * n) end
local function values_of(n) return (n - 1) * stride + 1 end
local function id_of(n) return argv[values_of(n) + id_at] end

local state = redis.call('HMGET', checkpoint, 'epoch', 'position', 'event_id')
local stored, position = state[1] or '0', state[2] or '0000000000000000-00000000'
if tonumber(stored) > tonumber(epoch) then
  return redis.error_reply('FENCED epoch ' .. epoch .. ' is over, the checkpoint has ' .. stored)
end
if stored ~= epoch or is_before(position, follows) then
  return redis.error_reply('GAP the batch of epoch ' .. epoch .. ' follows ' .. follows ..
    ', the checkpoint has epoch ' .. stored .. ' and ' .. position)
end

local first = 1
while first <= events and not is_before(position, position_of(first)) do first = first + 1 end
local present = first - 1

-- The batch begins with repeats. They are repeats only if the last event that was written comes
-- again, the very same; else PostgreSQL lost its history and uses the same positions anew.
local expected = state[3] or ''
if position ~= follows and expected ~= '' then
  local is_met = present > 0 and position_of(present) == position
  local other = is_met and present or first
  if other <= events and not (is_met and id_of(present) == expected) then
    return redis.error_reply('REWOUND another event is at ' .. position_of(other) ..
      ' than the one written last, at ' .. position)
  end
end

local add = adder(stream, argv, layout, shared)
local added, refusal = 0, nil
for n = first, events do
  local reply = add(values_of(n))
  if type(reply) == 'table' and reply.err then
    refusal = reply.err
    break
  end
  added = added + 1
end

if added > 0 then
  local written = present + added
  redis.call('HSET', checkpoint, 'position', position_of(written), 'event_id', id_of(written))
  local maxlen = argv[last]
  if maxlen ~= '0' then redis.call('XTRIM', stream, 'MAXLEN', '~', maxlen) end
end
if refusal then return {added, present, refusal} end
return {added, present}
