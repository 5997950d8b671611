-- Takes an agent off the list, unless its address has another connection by now.
--
-- KEYS[1]  hash: address -> entry (JSON)
-- KEYS[2]  zset: address -> unix ms until which its worker vouches for it
-- ARGV     address, entry
-- Returns  1 when it was taken off
--
-- Invariant: nobody takes another connection's entry away.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
