-- Tells what is outstanding, and whose it is time to settle.
--
-- KEYS  1 zset user -> unix ms since when he owes  2 set of the frozen users
-- ARGV  1 prefix of the credits' keys, to which a user is added (they share the hash tag of KEYS[1])
--       2 tokens from which on a user is settled at once  3 ms after which he is settled anyway
-- Returns {all outstanding tokens, age of the oldest in ms, the frozen users, {user, his tokens, ...}}.
--
-- Invariant: nothing is changed. Whoever is frozen, or has a transaction under way, is not told.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local total, oldest, due = 0, now, {}
local owing = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #owing, 2 do
    local user, since = owing[i], tonumber(owing[i + 1])
    local credit = redis.call('HMGET', ARGV[1] .. user, 'cum', 'settled', 'inflight')
    local owed = tonumber(credit[1] or 0) - tonumber(credit[2] or 0)
    local ripe = owed > 0 and (owed >= tonumber(ARGV[2]) or since <= now - ARGV[3])
    total, oldest = total + math.max(0, owed), math.min(oldest, since)
    if ripe and tonumber(credit[3] or 0) == 0 and redis.call('SISMEMBER', KEYS[2], user) == 0 then
        due[#due + 1] = user
        due[#due + 1] = owed
    end
end
return {total, now - oldest, redis.call('SMEMBERS', KEYS[2]), due}
