-- Notes how much of a paid answer has left, and prolongs its lease.
--
-- KEYS  1 hash: the charge  2 zset "user request id" -> lease end ms
-- ARGV  1 member of KEYS[2]  2 prompt tokens  3 completion tokens  4 lease ms  5 node's wallet  6 node's URL
--       7 account of the metrics
-- Returns 1, or 0 when the request is not under way any more.
--
-- Invariant: what is noted only grows.

if redis.call('HGET', KEYS[1], 'state') ~= 'reserved' then
    return 0
end
if tonumber(ARGV[3]) > tonumber(redis.call('HGET', KEYS[1], 'completion_tokens') or 0) then
    redis.call('HSET', KEYS[1], 'prompt_tokens', ARGV[2], 'completion_tokens', ARGV[3],
        'tokens', string.format('%.0f', ARGV[2] + ARGV[3]), 'node', ARGV[5], 'url', ARGV[6], 'account', ARGV[7])
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], 'XX', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4], ARGV[1])
return 1
