-- One commit of a fold: outputs, state and acknowledgements, all or nothing, refused when the lease is gone.
--
-- KEYS     every key touched, in the order the plan numbers them (1-based)
-- ARGV[1]  the plan, JSON: what to do with which key
-- ARGV[2:] the values, in the order the plan consumes them
--
-- plan.lease    key                  its value must equal the next ARGV, or nothing happens
-- plan.sequence key                  holds the number of the last such commit; not larger means: already done
-- plan.add      [key, fields]...     XADD
-- plan.hash     [key, fields]...     HSET
-- plan.state    key                  SET
-- plan.ack      [key, ids]...        XACK (the group comes first)
-- plan.trim     [key, mark, ms]...   XTRIM by the server's own clock; the highest deleted id goes to `mark`
local plan = cjson.decode(ARGV[1])
local at = 1
local function value()
  at = at + 1
  return ARGV[at]
end
local function values(n)
  local list = {}
  for i = 1, n do list[i] = value() end
  return list
end

if plan.lease and redis.call('GET', KEYS[plan.lease]) ~= value() then
  return redis.error_reply('FENCED another process owns this shard')
end
if plan.sequence then
  local number = value()
  if tonumber(redis.call('GET', KEYS[plan.sequence]) or '0') >= tonumber(number) then return {} end
  redis.call('SET', KEYS[plan.sequence], number)
end

local ids = {}
for i, add in ipairs(plan.add) do
  ids[i] = redis.call('XADD', KEYS[add[1]], '*', unpack(values(add[2])))
end
for _, hash in ipairs(plan.hash) do
  redis.call('HSET', KEYS[hash[1]], unpack(values(hash[2])))
end
if plan.state then redis.call('SET', KEYS[plan.state], value()) end
for _, ack in ipairs(plan.ack) do
  local group = value()
  redis.call('XACK', KEYS[ack[1]], group, unpack(values(ack[2])))
end
if #plan.trim > 0 then
  local now = redis.call('TIME')
  for _, trim in ipairs(plan.trim) do
    local limit = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) - trim[3])
    local last = redis.call('XREVRANGE', KEYS[trim[1]], '(' .. limit .. '-0', '-', 'COUNT', 1)[1]
    if last then
      redis.call('XTRIM', KEYS[trim[1]], 'MINID', limit .. '-0')
      redis.call('SET', KEYS[trim[2]], last[1])
    end
  end
end
return ids
