-- Ends the journal's life: from here on nothing can be planned, journaled or ended in it.
--
-- KEYS  1 string: epoch  2 string: next nonce  3 zset of the open nonces  4 string: the nonce from which on nobody can
--       have signed, as far as Redis knows  5 string: the contract whose ledger it is  6 string: the account whose
--       nonces these are
-- ARGV  1 the new epoch  2 the settler's contract  3 his account
-- Returns {run_id of Redis, what KEYS[4] is now}; 0 when the ledger is another contract's.
--
-- Invariant: no two lives have the same epoch; the fourth key never falls for one account. What is written later is
-- written in this epoch, and so for this contract.

redis.call('SET', KEYS[5], ARGV[2], 'NX')
if redis.call('GET', KEYS[5]) ~= ARGV[2] then
    return 0
end
local high = 0
if (redis.call('GET', KEYS[6]) or ARGV[3]) == ARGV[3] then -- another account's nonces say nothing of this one's
    high = math.max(tonumber(redis.call('GET', KEYS[4]) or 0), tonumber(redis.call('GET', KEYS[2]) or 0))
end
redis.call('SET', KEYS[6], ARGV[3])
redis.call('SET', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('SET', KEYS[4], string.format('%.0f', high))
return {string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'), high}
