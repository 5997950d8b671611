-- What there is for a user's receipt.
--
-- KEYS  1 hash of the charge  2 zset settlement JSON -> to_cum of the user  3 hash of the signed receipt
-- ARGV  1 the user
-- Returns nil unless the charge is committed and the user's own, else {the charge's fields and values, JSON of the
-- settlement that was final with the charge's last token or "", the signed receipt's fields and values}.
--
-- Invariant: reads only, and never what is another user's.

local charge = redis.call('HMGET', KEYS[1], 'user', 'state', 'cum')
if charge[1] ~= ARGV[1] or charge[2] ~= 'committed' then
    return nil
end
local settlement = redis.call('ZRANGEBYSCORE', KEYS[2], charge[3], '+inf', 'LIMIT', 0, 1)[1] or ''
-- Old settlements are forgotten: then the oldest that is kept began behind this charge.
if settlement ~= '' and tonumber(cjson.decode(settlement)['from_cum']) >= tonumber(charge[3]) then
    settlement = ''
end
return {redis.call('HGETALL', KEYS[1]), settlement, redis.call('HGETALL', KEYS[3])}
