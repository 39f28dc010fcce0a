-- Writes one dead letter, once for one death.
--
-- KEYS  dead letter stream, delivered (its hash, as in deliver.lua)
-- ARGV  the death's name, deadline in milliseconds, then fields and values of the entry
-- Reply 1, or 0 when it is there already. Error LATE as in deliver.lua, or what XADD says: then
--       nothing was written.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local late = now - tonumber(ARGV[2])
if late > 0 then return redis.error_reply('LATE the claim ended ' .. late .. ' ms ago') end
if redis.call('HMGET', KEYS[2], ARGV[1])[1] then return 0 end
local reply = redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, 3))
if type(reply) == 'table' and reply.err then return redis.error_reply(reply.err) end
redis.call('HSET', KEYS[2], ARGV[1], now)
return 1
