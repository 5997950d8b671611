-- Prolongs the lead of the one who has it.
--
-- KEYS  1 string: who leads
-- ARGV  1 who asks  2 life of the lease in ms, from now on
-- Returns 1, or 0 when another one leads or nobody.
--
-- Invariant: nobody prolongs another one's lead, or one that has ended.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
