-- Sets tokens of one user aside for one transaction, under the next nonce.
--
-- KEYS  1 string: epoch  2 string: run_id of the Redis that the journal was written under  3 string: next nonce
--       4 zset of the open nonces  5 hash: the transaction  6 list: its attempts  7 hash: the user's credit
--       8 set of the frozen users  9 string: the nonce from which on nobody can have signed
-- ARGV  1 epoch  2 nonce  3 user  4 the most tokens that his deposit pays  5 the most open transactions
-- Returns {tokens, cum up to which he is settled}; 0 when there is nothing to settle; -1 when the journal is another
-- one by now, or full.
--
-- Invariant: settled + inflight <= cum; one open transaction a user; open nonces are contiguous, and at most ARGV[5];
-- nothing is planned in a journal of an earlier life: neither of another epoch, nor of a Redis before its restart.
-- The ninth key is as far ahead as there can be plans until the oldest of them is final: a Redis that loses its latest
-- seconds with plans in them still knows a nonce that is higher than theirs.

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= run or redis.call('GET', KEYS[3]) ~= ARGV[2]
    or redis.call('ZCARD', KEYS[4]) >= tonumber(ARGV[5]) then
    return -1
end
local credit = redis.call('HMGET', KEYS[7], 'cum', 'settled', 'inflight')
local cum, settled, inflight = tonumber(credit[1] or 0), tonumber(credit[2] or 0), tonumber(credit[3] or 0)
if inflight ~= 0 or cum <= settled or redis.call('SISMEMBER', KEYS[8], ARGV[3]) == 1 then
    return 0
end
local tokens = math.min(cum - settled, tonumber(ARGV[4]))
if tokens < cum - settled then
    redis.call('HSET', KEYS[7], 'debt', '1')
end
if tokens <= 0 then
    return 0
end
local function text(number)
    return string.format('%.0f', number)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSETNX', KEYS[7], 'settled', '0')
redis.call('HSET', KEYS[7], 'inflight', text(tokens))
redis.call('DEL', KEYS[5], KEYS[6])
redis.call('HSET', KEYS[5], 'epoch', ARGV[1], 'state', 'PLANNED', 'user', ARGV[3], 'tokens', text(tokens),
    'from_cum', text(settled), 'to_cum', text(settled + tokens), 'rest', text(cum - settled - tokens), 'at', text(now))
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[2])
redis.call('SET', KEYS[3], text(ARGV[2] + 1))
redis.call('SET', KEYS[9], text(math.max(tonumber(redis.call('GET', KEYS[9]) or 0), ARGV[2] + 1 + ARGV[5])))
return {tokens, settled}
