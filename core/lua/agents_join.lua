-- Lists a connected agent for all workers; an agent with the same address is replaced.
--
-- KEYS[1]  hash: address -> entry (JSON)
-- KEYS[2]  zset: address -> unix ms until which its worker vouches for it
-- ARGV     address, entry, life in ms, most agents
-- Returns  1, or 0 when there are too many others
--
-- Invariant: at most `most` addresses are listed, each with the connection that came last.

local address, entry, life, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  redis.call('ZREM', KEYS[2], gone)
  redis.call('HDEL', KEYS[1], gone)
end
if not redis.call('ZSCORE', KEYS[2], address) and redis.call('ZCARD', KEYS[2]) >= most then
  return 0
end
redis.call('HSET', KEYS[1], address, entry)
redis.call('ZADD', KEYS[2], now + life, address)
return 1
