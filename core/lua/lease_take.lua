-- Takes the lead of the fleet when nobody has it.
--
-- KEYS  1 string: who leads  2 string: the number of the last lead
-- ARGV  1 who asks  2 life of the lease in ms
-- Returns the number of the new lead, 0 when another one leads. Who leads already gets a new number: the reply to
-- its first question was lost.
--
-- Invariant: one leader at a time, and each lead has a higher number than all before it.

local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.call('INCR', KEYS[2])
