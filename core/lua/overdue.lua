-- Tells the paid requests whose lease has ended: their worker is gone.
--
-- KEYS  1 zset "user request id" -> lease end ms
-- ARGV  1 prefix of the charges' keys, to which a request id is added (they share the hash tag of KEYS[1])
--       2 the most that one call tells
-- Returns {{member, state or "", completion tokens, prompt tokens, node's wallet, node's URL, account, price, model},
-- ...}. What is under way no more, or not known, is taken off the list, and told too.
--
-- Invariant: nothing else is changed: what becomes of a charge is for charge.lua and void.lua.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local told = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
    local id = string.match(member, '^%S+ (%S+)$')
    local charge = redis.call('HMGET', ARGV[1] .. (id or ''), 'state', 'completion_tokens', 'prompt_tokens', 'node',
        'url', 'account', 'price', 'model')
    if charge[1] ~= 'reserved' then
        redis.call('ZREM', KEYS[1], member)
    end
    local fields = {member}
    for i = 1, 8 do
        fields[i + 1] = charge[i] or ''
    end
    told[#told + 1] = fields
end
return told
