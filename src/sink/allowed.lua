-- Which of some calls the user of this connection may make. Writes nothing, and makes none of them.
--
-- ARGV  for each call: the number of its words, and the words
-- Reply for each call: 1 it may, 0 it may not, -1 the server does not know the command; nothing at
--       all before Redis 7.0, which cannot be asked
if not redis.acl_check_cmd then return false end
local answers, at = {}, 1
while at <= #ARGV do
  local words, count = {}, tonumber(ARGV[at])
  for n = 1, count do words[n] = ARGV[at + n] end
  local is_known, is_allowed = pcall(redis.acl_check_cmd, unpack(words))
  answers[#answers + 1] = not is_known and -1 or is_allowed and 1 or 0
  at = at + count + 1
end
return answers
