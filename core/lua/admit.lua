-- Lets one request in, or says why not; what the gate asks of Redis, in one round trip.
--
-- KEYS  1 revocation mark of the caller's token
--       2 zset request id -> admitted ms: the caller's window
--       3 zset "address request id" -> lease end ms: the open requests
-- ARGV  1 request id  2 member of the open requests  3 limit (0: nothing is counted)  4 window ms  5 lease ms
-- Returns {verdict, used, reset at unix ms, now unix ms}; verdict is "admitted", "over" or "revoked".
--
-- Invariant: at most `limit` members of KEYS[2] are younger than the window; a request id is one member, however
-- often it is sent; what is admitted is open until it is delivered, committed, handed back or reaped.

local id, member = ARGV[1], ARGV[2]
local limit, window, lease = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'revoked', 0, 0, now}
end

local function answer(verdict)
    local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or now
    return {verdict, redis.call('ZCARD', KEYS[2]), oldest + window, now}
end

if limit > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - window)
    if redis.call('ZSCORE', KEYS[2], id) then
        return answer('admitted')
    end
    if redis.call('ZCARD', KEYS[2]) >= limit then
        return answer('over')
    end
    -- A clock that was set back must not let this entry leave before those that were there first.
    local newest = tonumber(redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or 0)
    local at = math.max(now, newest)
    redis.call('ZADD', KEYS[2], at, id)
    redis.call('PEXPIREAT', KEYS[2], at + window)
end

redis.call('ZADD', KEYS[3], now + lease, member)
return answer('admitted')
