-- Names the users of whom the chain says something else than the ledger.
--
-- KEYS  1 set of the frozen users
-- ARGV  the users
-- Returns how many were named before.
--
-- Invariant: exactly those are frozen.

local before = redis.call('SCARD', KEYS[1])
redis.call('DEL', KEYS[1])
for _, user in ipairs(ARGV) do
    redis.call('SADD', KEYS[1], user)
end
return before
