-- Ties a checkpoint to a history of PostgreSQL: its timeline and, where a part of the old history
-- is gone, a lower position.
--
-- KEYS  stream, checkpoint
-- ARGV  epoch, timeline, position or '' to leave it
-- Errors FENCED and GAP as in publish.lua; then nothing was written.
local checkpoint = KEYS[2]
local epoch, timeline, position = ARGV[1], ARGV[2], ARGV[3]
local stored = redis.call('HGET', checkpoint, 'epoch') or '0'
if tonumber(stored) > tonumber(epoch) then
  return redis.error_reply('FENCED epoch ' .. epoch .. ' is over, the checkpoint has ' .. stored)
end
if stored ~= epoch then
  return redis.error_reply('GAP the checkpoint has epoch ' .. stored .. ', not ' .. epoch)
end
redis.call('HSET', checkpoint, 'timeline', timeline)
if position ~= '' then
  -- The event at a position that is made up has no id.
  redis.call('HSET', checkpoint, 'position', position, 'event_id', '')
end
return redis.status_reply('OK')
