-- Reads a stream backwards and says which events its entries are, in any of our formats.
--
-- KEYS  stream
-- ARGV  the entry to begin at ('+': the newest), entries to read at most
-- Reply {the entry to go on with ('': that was all), entries read, an event's id, another, ..}
--
-- Pages begin small and stay so: behind small entries there may be large ones, and a page of those
-- must not fill the server's memory. An entry to go on with is read twice; ranges that leave it out
-- came with Redis 6.2.
local BYTES_MAX, PAGE_MAX = 1048576, 16
local from, wanted = ARGV[1], tonumber(ARGV[2])
local reply, read, bytes, page = {'', 0}, 0, 0, 2

local function event_id(fields)
  if fields[1] == 'data' then
    local data = fields[2]
    return string.match(data, '^{"event_id":"([^"\\]*)"') or
      string.match(data, '^{"specversion":"1.0","id":"([^"\\]*)"')
  end
  for i = 1, #fields, 2 do
    if fields[i] == 'event_id' then return fields[i + 1] end
  end
end

while true do
  local entries = redis.pcall('XREVRANGE', KEYS[1], from, '-', 'COUNT', page)
  if entries.err then return entries end
  local first = (from == '+' or entries[1] and entries[1][1] ~= from) and 1 or 2
  for i = first, #entries do
    local fields = entries[i][2]
    local id = event_id(fields)
    if id then reply[#reply + 1] = id end
    for j = 1, #fields do bytes = bytes + #fields[j] end
    read = read + 1
    from = entries[i][1]
  end
  reply[2] = read
  if #entries < page then return reply end
  if read >= wanted or bytes >= BYTES_MAX then
    reply[1] = from
    return reply
  end
  page = math.min(page * 2, PAGE_MAX)
end
