-- One batch of a replay for one stream, in one atomic step: chain, skip what is there, add,
-- remember. Stands behind entry.lua. The checkpoint of the line is not known here, nor is the
-- stream trimmed: a replay disturbs nobody who writes or reads the same stream.
--
-- KEYS  stream, journal (a hash: position, event_id and entries of this replay in this stream)
-- ARGV  the events and what they share, as in entry.lua;
--       then five of the batch: positions of the events, layout, stride, position it follows,
--       seconds for which the journal outlives its last entry
-- Reply {entries added, events that were there already}, and where one was refused
--       {.., .., error text}: then all before it are in the stream and in the journal, and it and
--       all behind it are not.
-- Error GAP: the journal is not where this batch follows: Redis came back with older data. Nothing
--       was written.
--
-- Positions are fixed-width text and rise, as in publish.lua.
local stream, journal = KEYS[1], KEYS[2]
local argv, last = ARGV, #ARGV
local positions, layout, stride = argv[last - 4], argv[last - 3], tonumber(argv[last - 2])
local follows, seconds = argv[last - 1], argv[last]
local shared = last - 4 - shared_values(layout)
local events, id_at = (shared - 1) / stride, id_place(layout)

local function position_of(n) return string.sub(positions, 25 * n - 24, 25 * n) end
local function values_of(n) return (n - 1) * stride + 1 end

local position = redis.call('HGET', journal, 'position') or '0000000000000000-00000000'
if is_before(position, follows) then
  return redis.error_reply('GAP the batch follows ' .. follows .. ', the journal has ' .. position)
end

local first = 1
while first <= events and not is_before(position, position_of(first)) do first = first + 1 end
local present = first - 1

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
  redis.call('HSET', journal, 'position', position_of(written),
    'event_id', argv[values_of(written) + id_at])
  redis.call('HINCRBY', journal, 'entries', added)
  redis.call('EXPIRE', journal, seconds)
end
if refusal then return {added, present, refusal} end
return {added, present}
