-- Who takes part in sharing out a worker's shards: enrol, forget whoever has not been heard of, list the rest.
--
-- KEYS  members: hash, process -> `until:shards held`, until in ms by this server's clock
-- ARGV  process, for how long in ms (0: leave), shards held
-- Returns process, shards held, process, shards held, ...
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:%s', now + ARGV[2], ARGV[3]))
end
local members = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local till, held = string.match(all[i + 1], '^(%d+):(%d+)$')
  if tonumber(till) < now then
    redis.call('HDEL', KEYS[1], all[i])
  else
    members[#members + 1] = all[i]
    members[#members + 1] = held
  end
end
return members
