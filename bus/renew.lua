-- Keep (or, with 0 ms, give up) a lease that is still ours. KEYS lease; ARGV value, time to live in ms.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
