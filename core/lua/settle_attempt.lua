-- Writes a signed transaction down, before it is sent.
--
-- KEYS  1 string: epoch  2 zset of the open nonces  3 hash: the transaction  4 list: its attempts
-- ARGV  1 epoch  2 nonce  3 how many attempts the writer knows  4 the attempt (JSON)
-- Returns 1, or 0 when there is another attempt by now, or the transaction is not open in this epoch.
--
-- Invariant: no attempt is lost or written over; an earlier life's transaction gets none.

if redis.call('GET', KEYS[1]) ~= ARGV[1] or not redis.call('ZSCORE', KEYS[2], ARGV[2])
    or redis.call('HGET', KEYS[3], 'epoch') ~= ARGV[1] or redis.call('LLEN', KEYS[4]) ~= tonumber(ARGV[3]) then
    return 0
end
redis.call('RPUSH', KEYS[4], ARGV[4])
return 1
