-- Ends the lead of the one who has it.
--
-- KEYS  1 string: who leads
-- ARGV  1 who asks
-- Returns 1, or 0 when another one leads or nobody.
--
-- Invariant: nobody ends another one's lead.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call('DEL', KEYS[1])
