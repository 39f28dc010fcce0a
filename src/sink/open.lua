-- Takes a stream over: raises the epoch of its checkpoint, so that no earlier leader can write
-- again, and says where the stream stands.
--
-- KEYS  stream, checkpoint
-- ARGV  timeline
-- Reply {epoch, position or '', event_id or '', timeline of the last leader or ''}
--
-- The epoch is a counter that also never falls behind the clock of this server in milliseconds: a
-- Redis that came back with older data must not hand out an epoch that a sleeping leader still
-- holds. The timeline is only set where there is none: what the stored one means is for the new
-- leader to judge, and for anchor.lua to write down.
local checkpoint = KEYS[2]
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the key holds a ' .. kind .. ', not a stream')
end
local state = redis.call('HMGET', checkpoint, 'epoch', 'position', 'event_id', 'timeline')
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local before = tonumber(state[1] or '0')
if not before then
  return redis.error_reply('CHECKPOINT the epoch in ' .. checkpoint .. ' is no number')
end
local epoch = math.max(before + 1, now)
redis.call('HSET', checkpoint, 'epoch', string.format('%.0f', epoch))
redis.call('HSETNX', checkpoint, 'timeline', ARGV[1])
return {string.format('%.0f', epoch), state[2] or '', state[3] or '', state[4] or ''}
