-- Counts one paid answer, and charges it to its user.
--
-- KEYS  1 hash: the charge  2 hash: the user's credit  3 zset "user request id" -> lease end ms
--       4 zset user -> since when he owes  5 zset of the user's charges -> cum right after each
--       6 hash account -> answers  7, 8, 9 hashes of totals: the fleet's, the node's, the account's
--       10 string: where the answer is kept, if it is
-- ARGV  1 "1" when it was tried before, else "0"  2 member of KEYS[3]  3 user  4 request id  5 model  6 node's wallet
--       7 account  8 price  9 prompt tokens  10 completion tokens  11 how long the answer took, in ms
--       12 life of the charge in seconds  13 the answer  14 how long it is kept, in seconds
-- Returns {tokens of the charge, the user's cum, his reserved tokens}.
--
-- Invariant: cum is the sum of all charges' tokens, which only grow; a charge that is counted again adds what it is
-- more than before; its reservation is released once; it is in all totals or in none. What is kept is charged.

local charge = redis.call('HMGET', KEYS[1], 'state', 'reserved', 'prompt_tokens', 'completion_tokens')
local was_charged = charge[1] == 'committed'
local was_prompt = was_charged and tonumber(charge[3]) or 0
local was_completion = was_charged and tonumber(charge[4]) or 0
local prompt, completion = math.max(tonumber(ARGV[9]), was_prompt), math.max(tonumber(ARGV[10]), was_completion)
local more = prompt + completion - was_prompt - was_completion

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local cum = redis.call('HINCRBY', KEYS[2], 'cum', more)
if ARGV[1] == '1' and not charge[1] then
    redis.call('HINCRBY', KEYS[2], 'again', more) -- a Redis that was emptied can't tell whether this is settled
end
if charge[1] == 'reserved' then
    redis.call('HINCRBY', KEYS[2], 'reserved', -charge[2])
end
redis.call('ZREM', KEYS[3], ARGV[2])
if more > 0 or not was_charged then
    redis.call('HSET', KEYS[1], 'user', ARGV[3], 'state', 'committed', 'reserved', '0',
        'tokens', string.format('%.0f', prompt + completion), 'prompt_tokens', string.format('%.0f', prompt),
        'completion_tokens', string.format('%.0f', completion), 'price', ARGV[8], 'model', ARGV[5], 'node', ARGV[6],
        'at', now, 'cum', cum)
    redis.call('EXPIRE', KEYS[1], ARGV[12])
    redis.call('ZADD', KEYS[5], cum, ARGV[4])
    for i = 7, 9 do
        redis.call('HINCRBY', KEYS[i], 'prompt_tokens', prompt - was_prompt)
        redis.call('HINCRBY', KEYS[i], 'completion_tokens', completion - was_completion)
    end
end
if not was_charged then
    redis.call('HINCRBY', KEYS[6], ARGV[7], 1)
    for i = 7, 9 do
        redis.call('HINCRBY', KEYS[i], 'answers', 1)
        redis.call('HINCRBY', KEYS[i], 'latency_ms', ARGV[11])
    end
end
if cum > tonumber(redis.call('HGET', KEYS[2], 'settled') or 0) then
    redis.call('ZADD', KEYS[4], 'NX', now, ARGV[3])
end
if KEYS[10] then
    redis.call('SET', KEYS[10], ARGV[13], 'NX', 'EX', ARGV[14])
end
return {prompt + completion, cum, tonumber(redis.call('HGET', KEYS[2], 'reserved') or 0)}
