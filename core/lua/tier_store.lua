-- Keeps what the contract said of a wallet, and ends the claim.
--
-- KEYS[1]  hash: credit, read_at, fresh_until
-- KEYS[2]  string: the token of the one who asks now
-- ARGV     own token, credit ("" when the contract gave no answer), read_at, fresh_until, life of the entry in seconds
-- Returns  1 when it was kept, else 0
--
-- Invariant: what was read before an event is never kept after it, since the event has ended the claim.

if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
if ARGV[2] == '' then
  return 0
end
redis.call('HSET', KEYS[1], 'credit', ARGV[2], 'read_at', ARGV[3], 'fresh_until', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
