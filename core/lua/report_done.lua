-- Notes that the Oracle has accepted a report.
--
-- KEYS  1 hash: how far the Oracle has been told (its fields stand in report_begin)
--       2 number of the latest lead
-- ARGV  1 timestamp of the report  2 its tokens  3 its requests  4 the most tokens of one report
--       5 number of the caller's lead
-- Returns 1, or 0 when another report was begun meanwhile, or another one leads: then that one is to be confirmed.
--
-- Invariant: with step "count" the Oracle's last figures for the wallet are at least tokens and requests, and what
-- it has booked is base and these figures together.

local leads = tonumber(ARGV[5]) >= tonumber(redis.call('GET', KEYS[2]) or 0)
if not leads or redis.call('HGET', KEYS[1], 'timestamp') ~= ARGV[1] then
    return 0
end
local tokens, requests, step = ARGV[2], ARGV[3], 'count'
if tokens == ARGV[4] then -- no larger figure is taken: the count goes on from zero
    redis.call('HINCRBY', KEYS[1], 'base_tokens', tokens)
    redis.call('HINCRBY', KEYS[1], 'base_requests', requests)
    tokens, requests, step = 0, 0, 'zero'
end
redis.call('HSET', KEYS[1], 'accepted_at', ARGV[1], 'tokens', tokens, 'requests', requests, 'step', step)
return 1
