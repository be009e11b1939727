-- One commit of a fold: outputs, state and acknowledgements, all or nothing, refused when the lease is gone.
--
-- KEYS     every key touched, in the order the plan numbers them (1-based)
-- ARGV[1]  the plan, JSON: what to do with which key
-- ARGV[2:] the values, in the order the plan consumes them
--
-- plan.lease    key                  its value must equal the next ARGV, or nothing happens
-- plan.sequence key                  holds the number of the last such commit; not larger means: already done. Behind
--                                    it, the id of the newest quiet entry
-- plan.add      [key, values, quiet, id]...  XADD; a quiet one stays out of the append-only file and the replicas, one
--                                    with an id of its own is left out where the stream has gone past it
-- plan.hash     [key, values]...     HSET
-- plan.set      key...               SET
-- plan.ack      [key, ids]...        XACK (the group comes first)
-- plan.trim     [key, mark, ms, id]...  XTRIM by the server's own clock, and of what is not newer than `id`; the highest
--                                    deleted id goes to `mark`
--
-- Redis does not undo what a script did before it failed. So whatever can fail is looked at first, and the writes
-- come last.
local ACKS_PER_CALL = 1000 -- Lua's stack holds 8000 values
local plan = cjson.decode(ARGV[1])
local at = 2 -- the next value

if plan.lease then
  if redis.call('GET', KEYS[plan.lease]) ~= ARGV[at] then
    return redis.error_reply('FENCED this process does not own the shard (any more)')
  end
  at = at + 1
end
local number, newest
if plan.sequence then
  number = ARGV[at]
  local last, quiet = string.match(redis.call('GET', KEYS[plan.sequence]) or '0', '^(%d+) ?(.*)$')
  if tonumber(last) >= tonumber(number) then return {} end
  newest = quiet
  at = at + 1
end

local seen = {}
local function must_be(key, kind)
  if seen[key] then return end
  seen[key] = true
  local found = redis.call('TYPE', KEYS[key]).ok
  if found ~= kind and found ~= 'none' then error('WRONGTYPE ' .. KEYS[key] .. ' is a ' .. found .. ', not a ' .. kind) end
end
local values = at
for _, add in ipairs(plan.add) do
  must_be(add[1], 'stream')
  values = values + add[2]
end
for _, hash in ipairs(plan.hash) do
  must_be(hash[1], 'hash')
  values = values + hash[2]
end
values = values + #plan.set
for _, ack in ipairs(plan.ack) do
  redis.call('XPENDING', KEYS[ack[1]], ARGV[values]) -- fails where the group is gone
  values = values + 1 + ack[2]
end

-- Nothing below fails.
local ids = {}
for i, add in ipairs(plan.add) do
  local key, count, quiet, id = unpack(add)
  redis.set_repl(quiet and redis.REPL_NONE or redis.REPL_ALL)
  local added = redis.pcall('XADD', KEYS[key], id, unpack(ARGV, at, at + count - 1))
  if type(added) == 'table' then
    if not string.find(added.err, 'equal or smaller', 1, true) then return added end
    added = ''
  elseif quiet then
    newest = added
  end
  ids[i] = added
  at = at + count
end
redis.set_repl(redis.REPL_ALL)
if number then redis.call('SET', KEYS[plan.sequence], newest ~= '' and number .. ' ' .. newest or number) end
for _, hash in ipairs(plan.hash) do
  redis.call('HSET', KEYS[hash[1]], unpack(ARGV, at, at + hash[2] - 1))
  at = at + hash[2]
end
for _, key in ipairs(plan.set) do
  redis.call('SET', KEYS[key], ARGV[at])
  at = at + 1
end
for _, ack in ipairs(plan.ack) do
  local group, last = ARGV[at], at + ack[2]
  for first = at + 1, last, ACKS_PER_CALL do
    redis.call('XACK', KEYS[ack[1]], group, unpack(ARGV, first, math.min(first + ACKS_PER_CALL - 1, last)))
  end
  at = last + 1
end
if #plan.trim > 0 then
  local now = redis.call('TIME')
  for _, trim in ipairs(plan.trim) do
    -- The first that stays: the ids of two stand side by side, milliseconds and number.
    local stay_ms, stay_number = now[1] * 1000 + math.floor(now[2] / 1000) - trim[3], 0
    local ms, number = string.match(trim[4], '^(%d+)-(%d+)$')
    if ms and tonumber(ms) >= stay_ms then stay_ms, stay_number = tonumber(ms), tonumber(number) + 1 end
    -- The oldest entry tells whether there is anything to do; XREVRANGE from before it would walk the whole stream.
    local oldest = redis.call('XRANGE', KEYS[trim[1]], '-', '+', 'COUNT', 1)[1]
    local old_ms, old_number = string.match(oldest and oldest[1] or '', '^(%d+)-(%d+)$')
    old_ms, old_number = tonumber(old_ms), tonumber(old_number)
    if oldest and (old_ms < stay_ms or (old_ms == stay_ms and old_number < stay_number)) then
      local stay = string.format('%.0f-%.0f', stay_ms, stay_number)
      local last = redis.call('XREVRANGE', KEYS[trim[1]], '(' .. stay, '-', 'COUNT', 1)[1]
      redis.call('XTRIM', KEYS[trim[1]], 'MINID', stay)
      redis.call('SET', KEYS[trim[2]], last[1])
    end
  end
end
return ids
