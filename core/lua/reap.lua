-- Hands back the requests whose lease ended: their worker is gone and delivered nothing.
--
-- KEYS  1 zset "address request id" -> lease end ms: the open requests
-- ARGV  1 prefix of the windows' keys, to which an address is added (they share the hash tag of KEYS[1])
--       2 the most that one call takes
-- Returns how many it took; fewer than ARGV[2] means that none is left.
--
-- Invariant: that of hand_back; every request goes to one reaper.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local overdue = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, member in ipairs(overdue) do
    local address, id = string.match(member, '^(%S+) (%S+)$')
    redis.call('ZREM', KEYS[1], member)
    if address then
        redis.call('ZREM', ARGV[1] .. address, id)
    end
end
return #overdue
