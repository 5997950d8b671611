-- Reads the settler's journal, all of it at one moment.
--
-- KEYS  1 string: epoch  2 string: run_id of the Redis that it was written under  3 string: next nonce
--       4 zset of the open nonces  5 string: the contract whose ledger it is  6 string: the account whose nonces
--       these are
-- ARGV  1 prefix of the transactions' keys, to which a nonce is added (they share the hash tag of KEYS[4])
--       2 the reader's contract  3 his account
-- Returns {epoch or "", run_id or "", run_id now, next nonce or "", {{nonce, epoch, user, tokens, from_cum, to_cum,
-- {attempt, ...}}, ...}, account or ""}; what is missing of a transaction is "". 0 when the ledger is another
-- contract's.
--
-- Invariant: nothing is changed, but that a ledger which is nobody's is the reader's contract's from here on, and a
-- journal his account's.

if redis.call('EXISTS', KEYS[5]) == 0 then
    redis.call('SET', KEYS[5], ARGV[2])
elseif redis.call('GET', KEYS[5]) ~= ARGV[2] then
    return 0
end
if redis.call('EXISTS', KEYS[3]) == 1 and redis.call('EXISTS', KEYS[6]) == 0 then
    redis.call('SET', KEYS[6], ARGV[3])
end
local open = {}
for _, nonce in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    local tx = redis.call('HMGET', ARGV[1] .. nonce, 'epoch', 'user', 'tokens', 'from_cum', 'to_cum')
    local attempts = redis.call('LRANGE', ARGV[1] .. nonce .. ':attempts', 0, -1)
    open[#open + 1] = {nonce, tx[1] or '', tx[2] or '', tx[3] or '', tx[4] or '', tx[5] or '', attempts}
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
return {
    redis.call('GET', KEYS[1]) or '', redis.call('GET', KEYS[2]) or '', run, redis.call('GET', KEYS[3]) or '', open,
    redis.call('GET', KEYS[6]) or '',
}
