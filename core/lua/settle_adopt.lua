-- Takes the ledger over to another contract: what its users have used so far is settled, and is never debited there.
--
-- KEYS  1 string: the contract whose ledger it is  2 string: epoch  3 string: next nonce  4 zset of the open nonces
--       5 zset user -> since when he owes  6 set of all users who were ever settled  7 set of the frozen users
-- ARGV  1 the contract whose ledger it is to be  2 the new epoch  3 prefix of the credits' keys, to which a user is
--       added (they share the hash tag of KEYS[1])
-- Returns {users, tokens of them that were not settled}; 0 when it is that contract's; -1 when a transaction is open.
--
-- Invariant: a ledger is of one contract. Whoever settled for the former one can plan, write and end nothing any more:
-- the epoch is another one, and without a next nonce there is no journal. The recovery that follows finds what the
-- contract debited each user before: his `base`, "" until then, is what he has settled besides.

if redis.call('GET', KEYS[1]) == ARGV[1] then
    return 0
end
if redis.call('ZCARD', KEYS[4]) > 0 then
    return -1
end
for _, user in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
    redis.call('SADD', KEYS[6], user)
end
local users, left = redis.call('SMEMBERS', KEYS[6]), 0
for _, user in ipairs(users) do
    local key = ARGV[3] .. user
    local credit = redis.call('HMGET', key, 'cum', 'settled')
    local cum = credit[1] or '0'
    left = left + math.max(0, tonumber(cum) - tonumber(credit[2] or 0))
    redis.call('HSET', key, 'settled', cum, 'inflight', '0', 'base', '')
    redis.call('HDEL', key, 'debt')
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[3], KEYS[5], KEYS[7])
return {#users, left}
