-- Looks at a window of Free requests without taking a place in it.
--
-- KEYS[1]  zset: request id -> admitted, in unix ms
-- ARGV     window in ms
-- Returns  {used, unix ms at which the oldest leaves the window (0 when there is none), now in unix ms}
--
-- Invariant: nothing is changed.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = tonumber(ARGV[1])
local since = string.format('(%d', now - window)
local used = redis.call('ZCOUNT', KEYS[1], since, '+inf')
local oldest = redis.call('ZRANGEBYSCORE', KEYS[1], since, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {used, oldest[2] and oldest[2] + window or 0, now}
