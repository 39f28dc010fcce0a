-- Publishes what a poller has claimed, in one atomic step: late or not, skip what is there, add,
-- remember. Stands behind entry.lua.
--
-- KEYS  stream, delivered (a hash: ids of events that are in the stream and may not be settled)
-- ARGV  the events and what they share, as in entry.lua;
--       then four of the batch: layout, stride, deadline in milliseconds, maxlen (0: none)
-- Reply {entries added, events that were there already}, and where one was refused
--       {.., .., error text}: then it and all behind it are not in the stream.
-- Error LATE: the deadline has passed by the clock of this server; nothing was written. What a
--       poller claimed it may write for so long only: then the claim may be another's.
local stream, delivered = KEYS[1], KEYS[2]
local argv, last = ARGV, #ARGV
local layout, stride, deadline = argv[last - 3], tonumber(argv[last - 2]), tonumber(argv[last - 1])
local shared = last - 3 - shared_values(layout)

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
if now > deadline then
  return redis.error_reply('LATE the claim ended ' .. (now - deadline) .. ' ms ago')
end

local id_at, ids = id_place(layout), {}
for i = 1, shared - 1, stride do ids[#ids + 1] = argv[i + id_at] end
local known = redis.call('HMGET', delivered, unpack(ids))

local add = adder(stream, argv, layout, shared)
local added, present, refusal, new = 0, 0, nil, {}
for n = 1, #ids do
  if known[n] then
    present = present + 1
  else
    local reply = add((n - 1) * stride + 1)
    if type(reply) == 'table' and reply.err then
      refusal = reply.err
      break
    end
    added = added + 1
    new[#new + 1] = ids[n]
    new[#new + 1] = now
  end
end

if added > 0 then
  -- Lua's unpack takes some 8,000 values at most.
  for from = 1, #new, 4000 do
    redis.call('HSET', delivered, unpack(new, from, math.min(from + 3999, #new)))
  end
  local maxlen = argv[last]
  if maxlen ~= '0' then redis.call('XTRIM', stream, 'MAXLEN', '~', maxlen) end
end
if refusal then return {added, present, refusal} end
return {added, present}
