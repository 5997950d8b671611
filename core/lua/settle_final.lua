-- Ends a transaction that the chain will not take back: its tokens are settled, or outstanding again.
--
-- KEYS  1 string: epoch  2 string: run_id of the Redis that the journal was written under  3 zset of the open nonces
--       4 hash: the transaction  5 list: its attempts  6 hash: the user's credit  7 zset user -> since when he owes
--       8 set of all users who were ever settled  9 zset of the user's charges -> cum  10 zset of his settlements
-- ARGV  1 epoch  2 nonce  3 the settlement (JSON); "" when the contract refused  4 life of the transaction's keys in
--       seconds  5 the most settled charges  6 the most settlements
-- Returns 1, or 0 when it is not open in this epoch.
--
-- Invariant: each transaction is ended once; settled grows by its tokens, or not at all.

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= run
    or redis.call('HGET', KEYS[4], 'epoch') ~= ARGV[1] or redis.call('ZREM', KEYS[3], ARGV[2]) == 0 then
    return 0
end
local tx = redis.call('HMGET', KEYS[4], 'user', 'tokens', 'to_cum', 'rest', 'at')
redis.call('HSET', KEYS[6], 'inflight', '0')
redis.call('HSET', KEYS[4], 'state', ARGV[3] == '' and 'REVERTED' or 'FINAL')
redis.call('EXPIRE', KEYS[4], ARGV[4])
redis.call('EXPIRE', KEYS[5], ARGV[4])
if ARGV[3] == '' then
    return 1
end
local settled = redis.call('HINCRBY', KEYS[6], 'settled', tx[2])
if tx[4] == '0' then
    redis.call('HDEL', KEYS[6], 'debt')
end
if settled >= tonumber(redis.call('HGET', KEYS[6], 'cum') or 0) then
    redis.call('ZREM', KEYS[7], tx[1])
elseif tx[4] == '0' then
    redis.call('ZADD', KEYS[7], 'XX', tx[5], tx[1]) -- what he owes now was used after the plan
end
redis.call('SADD', KEYS[8], tx[1])
redis.call('ZADD', KEYS[10], tx[3], ARGV[3])
redis.call('ZREMRANGEBYRANK', KEYS[10], 0, -1 - ARGV[6])
local excess = redis.call('ZCOUNT', KEYS[9], '-inf', tx[3]) - ARGV[5]
if excess > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[9], 0, excess - 1)
end
return 1
