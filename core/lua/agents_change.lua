-- Takes an agent off the list, or changes its entry, unless its address has another connection by now.
--
-- KEYS[1]  hash: address -> entry (JSON)
-- KEYS[2]  zset: address -> unix ms until which its worker vouches for it
-- ARGV     address, entry, the entry in its place ("": none)
-- Returns  1 when that was done
--
-- Invariant: nobody touches another connection's entry.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 1
