-- Take a lease, with a fencing token that is larger than every earlier one.
--
-- KEYS  lease, fence, holder: hash, who took the lease last (`process`), and when (`since`, ms by this server's clock)
-- ARGV  owner, time to live in ms
-- Returns the lease's value `token:owner` and whose it was before (empty: nobody's yet), or nil while somebody else
-- holds it. An owner that holds it already (it restarted within its own process, or lost its connection) gets a new
-- token: what it sent under the old one and is still under way is refused.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, string.find(held, ':') + 1) ~= ARGV[1] then return nil end
local token = redis.call('INCR', KEYS[2]) .. ':' .. ARGV[1]
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
local before = redis.call('HGET', KEYS[3], 'process') or ''
if before ~= ARGV[1] then
  local time = redis.call('TIME')
  local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('HSET', KEYS[3], 'process', ARGV[1], 'since', now)
end
return { token, before }
