-- Keeps the last report of an agent.
--
-- KEYS  1 hash agent -> report  2 zset agent -> when it came, in unix ms
-- ARGV  1 agent  2 report  3 now in unix ms  4 life of a report in ms  5 the most agents
-- Returns 1.
--
-- Invariant: both keys have the same agents, at most ARGV[5], and none that is older than its life.

local function drop(agents)
    for _, agent in ipairs(agents) do
        redis.call('HDEL', KEYS[1], agent)
        redis.call('ZREM', KEYS[2], agent)
    end
end

redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
drop(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[3] - ARGV[4]))
local excess = redis.call('ZCARD', KEYS[2]) - ARGV[5]
if excess > 0 then
    drop(redis.call('ZRANGE', KEYS[2], 0, excess - 1))
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
