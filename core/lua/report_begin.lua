-- Takes what the Oracle is to be told next of an account, and a timestamp for it.
--
-- KEYS  1 hash: the account's totals  2 hash: how far the Oracle has been told  3 number of the latest lead
-- ARGV  1 wallet that it is told of  2 now, unix seconds  3 the most tokens of one report
--       4 how many seconds ahead the Oracle lets a timestamp be  5 number of the caller's lead
-- Returns {timestamp, tokens, requests, sum of latencies in ms, answers ever}; nil when there is nothing to tell, or another one leads.
--
-- The Oracle keeps a wallet's last figures and books the difference; figures below those are booked whole. KEYS[2]:
--   timestamp  the last one taken     accepted_at  the last one that the Oracle accepted
--   tokens, requests   what was accepted last         base_tokens, base_requests   what is booked apart from these
--   step       "zero": figures of 0 are due, which begin a new count from there; "count": the account's figures
--
-- Invariant: of two reports the one with the later timestamp never tells less, a zero apart; and as a timestamp is
-- taken once, it is the fencing token of its report: the Oracle refuses the earlier one behind the later one, and
-- report_done confirms only the latest.

if tonumber(ARGV[5]) < tonumber(redis.call('GET', KEYS[3]) or 0) then
    return nil
end

local function number(key, field)
    return tonumber(redis.call('HGET', key, field) or 0)
end

local now, most, ahead = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local tokens, answers = number(KEYS[1], 'completion_tokens'), number(KEYS[1], 'answers')
local told = {tokens = number(KEYS[2], 'tokens'), requests = number(KEYS[2], 'requests')}
local base = {tokens = number(KEYS[2], 'base_tokens'), requests = number(KEYS[2], 'base_requests')}
local step = redis.call('HGET', KEYS[2], 'step')

if redis.call('HGET', KEYS[2], 'wallet') ~= ARGV[1] then -- the first report ever, of this Redis or of this wallet
    base = {tokens = base.tokens + told.tokens, requests = base.requests + told.requests}
    told, step = {tokens = 0, requests = 0}, 'zero'
end
if tokens < base.tokens + told.tokens or answers < base.requests + told.requests then -- the totals were lost
    base, told, step = {tokens = 0, requests = 0}, {tokens = 0, requests = 0}, 'zero'
end
if tokens == base.tokens + told.tokens and answers == base.requests + told.requests then
    return nil
end

local at = math.max(now, number(KEYS[2], 'timestamp') + 1)
if at > now + ahead then -- a clock was put back: what it had signed ahead was refused
    at = math.max(now, number(KEYS[2], 'accepted_at') + 1)
end
redis.call('HSET', KEYS[2], 'wallet', ARGV[1], 'timestamp', at, 'step', step, 'tokens', told.tokens,
    'requests', told.requests, 'base_tokens', base.tokens, 'base_requests', base.requests)
if step == 'zero' then
    return {at, 0, 0, 0, 0}
end
return {at, math.min(tokens - base.tokens, most), answers - base.requests, number(KEYS[1], 'latency_ms'), answers}
