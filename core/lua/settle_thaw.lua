-- Lets users go of whom the chain says the same as the ledger again.
--
-- KEYS  1 set of the frozen users
-- ARGV  the users
-- Returns how many of them were frozen.
--
-- Invariant: all others who are frozen stay so.

local before = redis.call('SCARD', KEYS[1])
for _, user in ipairs(ARGV) do
    redis.call('SREM', KEYS[1], user)
end
return before - redis.call('SCARD', KEYS[1])
