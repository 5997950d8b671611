-- Keeps a receipt's signature for as long as the charge that it is of.
--
-- KEYS  1 hash of the charge  2 hash of the signed receipt
-- ARGV  1 digest that is signed  2 signature  3 signer
--
-- Invariant: a receipt does not outlive its charge.

local left = redis.call('PTTL', KEYS[1])
if left == -2 then
    return
end
redis.call('HSET', KEYS[2], 'digest', ARGV[1], 'signature', ARGV[2], 'signer', ARGV[3])
if left > 0 then
    redis.call('PEXPIRE', KEYS[2], left)
end
