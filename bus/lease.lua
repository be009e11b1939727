-- Take a lease, with a fencing token that is larger than every earlier one.
--
-- KEYS  lease, fence
-- ARGV  owner, time to live in ms
-- Returns the lease's value `token:owner`, or nil while somebody else holds it. An owner that holds it already (it
-- restarted within its own process, or lost its connection) gets a new token: what it sent under the old one and
-- is still under way is refused.
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, string.find(held, ':') + 1) ~= ARGV[1] then return nil end
local token = redis.call('INCR', KEYS[2]) .. ':' .. ARGV[1]
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token
