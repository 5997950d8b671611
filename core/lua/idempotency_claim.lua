-- Says what is known of an idempotency key, and claims it when that is nothing.
--
-- KEYS  1 revocation mark of the caller's token  2 string: the answer that is kept under the key
--       3 string "token fingerprint": the claim of the request that is under way
-- ARGV  1 token of this claim  2 fingerprint of the request  3 life of the claim in ms
--       4 SHA-1 of a kept answer that could not be read, which is as good as none; "" when there was none
-- Returns {verdict, value, SHA-1}: "revoked"; "kept", the answer and its SHA-1; "mine"; "taken" and the fingerprint of
-- its request.
--
-- Invariant: of all who come with a key that nothing is kept under, at most one has the claim.

if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'revoked', '', ''}
end
local kept = redis.call('GET', KEYS[2])
if kept then
    local digest = redis.sha1hex(kept)
    if digest ~= ARGV[4] then
        return {'kept', kept, digest}
    end
end
local claim = redis.call('GET', KEYS[3])
if claim then
    return {'taken', string.match(claim, '%S*$'), ''}
end
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[3], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return {'mine', '', ''}
