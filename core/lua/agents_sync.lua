-- Vouches for the agents that are connected to one worker, and tells which ones are connected to any.
--
-- KEYS[1]  hash: address -> entry (JSON)
-- KEYS[2]  zset: address -> unix ms until which its worker vouches for it
-- ARGV     life in ms, then address and entry of each agent of this worker
-- Returns  {1 when an entry came or went by this call, else 0, all entries}
--
-- Invariant: an entry is only prolonged by the worker that wrote it; one that was replaced stays replaced, and one
-- that is missing (Redis was emptied, or the worker was late) is put back.

local life = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local changed = 0

for i = 2, #ARGV, 2 do
  local listed = redis.call('HGET', KEYS[1], ARGV[i])
  if not listed then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    changed = 1
  end
  if not listed or listed == ARGV[i + 1] then
    redis.call('ZADD', KEYS[2], now + life, ARGV[i])
  end
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  redis.call('ZREM', KEYS[2], gone)
  redis.call('HDEL', KEYS[1], gone)
  changed = 1
end
return {changed, redis.call('HVALS', KEYS[1])}
