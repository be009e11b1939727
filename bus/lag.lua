-- How far consumer groups are behind. KEYS streams; ARGV the group of each.
-- Returns age in ms of the oldest entry that was not delivered, entries delivered and not acknowledged; for each.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for i, stream in ipairs(KEYS) do
  local lag, pending = 0, 0
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, group in ipairs(groups) do
    local about = {}
    for at = 1, #group, 2 do about[group[at]] = group[at + 1] end
    if about['name'] == ARGV[i] then
      pending = about['pending']
      local unread = redis.call('XRANGE', stream, '(' .. about['last-delivered-id'], '+', 'COUNT', 1)[1]
      if unread then lag = math.max(0, now - tonumber(string.match(unread[1], '^%d+'))) end
    end
  end
  found[#found + 1] = lag
  found[#found + 1] = pending
end
return found
