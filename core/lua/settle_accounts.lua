-- Tells the credit of all users who owe something, or were ever settled.
--
-- KEYS  1 zset user -> since when he owes  2 set of all users who were ever settled
-- ARGV  1 prefix of the credits' keys, to which a user is added (they share the hash tag of KEYS[1])
-- Returns {{user, cum, settled, inflight, base}, ...}; "" for a field that is not there, and "0" for the base then.
--
-- Invariant: nothing is changed.

local accounts, seen = {}, {}
for _, users in ipairs({redis.call('ZRANGE', KEYS[1], 0, -1), redis.call('SMEMBERS', KEYS[2])}) do
    for _, user in ipairs(users) do
        if not seen[user] then
            seen[user] = true
            local credit = redis.call('HMGET', ARGV[1] .. user, 'cum', 'settled', 'inflight', 'base')
            accounts[#accounts + 1] = {user, credit[1] or '', credit[2] or '', credit[3] or '', credit[4] or '0'}
        end
    end
end
return accounts
