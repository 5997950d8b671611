-- Lets one paid request in, or says why not; what the gate asks of Redis, in one round trip.
--
-- KEYS  1 revocation mark of the caller's token  2 hash: the user's credit  3 hash: the charge
--       4 zset "user request id" -> lease end ms: paid requests under way
-- ARGV  1 member of KEYS[4]  2 user  3 tokens that the request may take  4 tokens that the deposit pays
--       5 the most tokens that may be used and not settled  6 lease ms  7 price  8 model  9 life of a charge, seconds
-- Returns {verdict, outstanding, reserved, settled}; verdict is "reserved", "short", "full" or "revoked".
--
-- Invariant: outstanding + reserved <= what the deposit pays, and <= the most that may be unsettled unless this is
-- the only one; a request id is reserved once, however often it is sent.

if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'revoked', 0, 0, 0}
end
local credit = redis.call('HMGET', KEYS[2], 'cum', 'settled', 'reserved', 'debt')
local settled, reserved = tonumber(credit[2] or 0), tonumber(credit[3] or 0)
local outstanding = math.max(0, tonumber(credit[1] or 0) - settled)
if redis.call('EXISTS', KEYS[3]) == 1 then
    return {'reserved', outstanding, reserved, settled}
end
local held = outstanding + reserved
local wanted = held + ARGV[3]
if credit[4] == '1' or wanted > tonumber(ARGV[4]) then
    return {'short', outstanding, reserved, settled}
end
if held > 0 and wanted > tonumber(ARGV[5]) then
    return {'full', outstanding, reserved, settled}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[3], 'user', ARGV[2], 'state', 'reserved', 'reserved', ARGV[3], 'tokens', '0',
    'prompt_tokens', '0', 'completion_tokens', '0', 'price', ARGV[7], 'model', ARGV[8])
redis.call('EXPIRE', KEYS[3], ARGV[9])
redis.call('HINCRBY', KEYS[2], 'reserved', ARGV[3])
redis.call('ZADD', KEYS[4], now + ARGV[6], ARGV[1])
return {'reserved', outstanding, reserved + ARGV[3], settled}
