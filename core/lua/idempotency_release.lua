-- Frees an idempotency key whose request ended without an answer to keep.
--
-- KEYS  1 string "token fingerprint": the claim
-- ARGV  1 token of the claim to give up  2 fingerprint of its request
-- Returns 1 when it was given up, else 0.
--
-- Invariant: nobody gives up another one's claim.

if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ' ' .. ARGV[2] then
    return 0
end
return redis.call('DEL', KEYS[1])
