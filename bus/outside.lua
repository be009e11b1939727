-- What a fold writes outside the slot of its state, on a Redis Cluster: before the state, and each entry once in effect.
--
-- A crash between this and the commit of the state makes the fold do the same again. So what was written is noted here,
-- in the streams' own slot, until the commit behind it is known to have happened; what comes again is left out.
--
-- KEYS[1]   notes: hash, `writer:digest` -> `ms ids`, and `fence` -> token of the newest lease that has written here
-- KEYS[2:]  the streams
-- ARGV[1]   fencing token of our lease
-- ARGV[2]   name of this writer
-- ARGV[3]   1: the commit behind our last entries has happened, they will not come again
-- ARGV[4]   the plan, JSON: [stream, values, digest]... (stream: 1 is KEYS[2])
-- ARGV[5:]  the values
-- Returns the ids of the entries, also of those left out.
local NOTED_MS, LIFE_MS = 3600000, 86400000 -- nobody does again what a crash interrupted an hour ago
local plan = cjson.decode(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local flat = redis.call('HGETALL', KEYS[1])
local noted = {} -- digest -> {ms, ids}, of entries that may come again
for i = 1, #flat, 2 do
  if flat[i] == 'fence' then
    if tonumber(flat[i + 1]) > tonumber(ARGV[1]) then
      return redis.error_reply('FENCED another process has taken the shard, and written meanwhile')
    end
  else
    local writer, digest = string.match(flat[i], '^([^:]*):(.*)$')
    local ms, ids = string.match(flat[i + 1], '^(%d+) (.*)$')
    if tonumber(ms) > now - NOTED_MS and not (writer == ARGV[2] and ARGV[3] == '1') then
      local found = noted[digest] or { ms = ms, ids = {} }
      noted[digest] = found
      for id in string.gmatch(ids, '%S+') do found.ids[#found.ids + 1] = id end
    end
  end
end
for _, add in ipairs(plan) do
  local kind = redis.call('TYPE', KEYS[add[1] + 1]).ok
  if kind ~= 'stream' and kind ~= 'none' then error('WRONGTYPE ' .. KEYS[add[1] + 1] .. ' is a ' .. kind .. ', not a stream') end
end

-- Nothing below fails.
local at, ids, ours = 5, {}, {}
for i, add in ipairs(plan) do
  local key, count, digest = unpack(add)
  local before = noted[digest]
  ids[i] = before and table.remove(before.ids, 1) or redis.call('XADD', KEYS[key + 1], '*', unpack(ARGV, at, at + count - 1))
  ours[digest] = (ours[digest] or string.format('%.0f', now)) .. ' ' .. ids[i]
  at = at + count
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
for digest, left in pairs(noted) do
  if #left.ids > 0 then redis.call('HSET', KEYS[1], ':' .. digest, left.ms .. ' ' .. table.concat(left.ids, ' ')) end
end
for digest, value in pairs(ours) do redis.call('HSET', KEYS[1], ARGV[2] .. ':' .. digest, value) end
redis.call('PEXPIRE', KEYS[1], LIFE_MS)
return ids
