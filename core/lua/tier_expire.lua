-- Something happened to a wallet's deposit: what is known of it is fresh no more.
--
-- KEYS[1]  hash: credit, read_at, fresh_until
-- KEYS[2]  string: the token of the one who asks now
-- Returns  1
--
-- Invariant: the entry stays, for a chain that is away when it is to be read anew; a reading that is under way, and
-- may be of the time before, is not kept.

redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'fresh_until', '0')
end
return 1
