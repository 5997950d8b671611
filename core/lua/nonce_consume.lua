-- Uses up one nonce: of all who come with it, exactly one wins.
--
-- KEYS[1]  hash: nonce -> "issued_ms|expires_ms|origin"
-- ARGV     nonce
-- Returns  1 when it was open and is gone now; 0 when it was not there, or had expired
--
-- Invariant: 1 is returned at most once for a nonce.

local value = redis.call('HGET', KEYS[1], ARGV[1])
if not value then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return tonumber(string.match(value, '^%d+|(%d+)|')) > now and 1 or 0
