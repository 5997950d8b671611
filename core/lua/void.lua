-- Ends a paid request of which nothing has left: it costs nothing.
--
-- KEYS  1 hash: the charge  2 hash: the user's credit  3 zset "user request id" -> lease end ms
-- ARGV  1 member of KEYS[3]
-- Returns 1, or 0 when something has left, or it was ended before.
--
-- Invariant: a reservation is released once; what was delivered is never void.

local charge = redis.call('HMGET', KEYS[1], 'state', 'reserved', 'completion_tokens')
if charge[1] ~= 'reserved' or tonumber(charge[3] or 0) > 0 then
    return 0
end
redis.call('HINCRBY', KEYS[2], 'reserved', -charge[2])
redis.call('HSET', KEYS[1], 'state', 'void', 'reserved', '0')
redis.call('ZREM', KEYS[3], ARGV[1])
return 1
