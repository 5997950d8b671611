-- Counts one answer.
--
-- KEYS  1 mark that the answer is counted  2 zset of open requests  3 hash account -> answers
--       4, 5, 6 hashes of totals: the fleet's, the node's, the account's
--       7 string: where the answer is kept, if it is
-- ARGV  1 member of the open requests  2 life of the mark in seconds  3 account
--       4 prompt tokens  5 completion tokens  6 how long the answer took, in ms
--       7 the answer  8 how long it is kept, in seconds
-- Returns 1 when it was counted now, 0 when it was before.
--
-- Invariant: an answer is in all totals or in none, and once; in one account only. What is kept is counted, and
-- what was kept first stays.

redis.call('ZREM', KEYS[2], ARGV[1])
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[2]) then
    return 0
end
redis.call('HINCRBY', KEYS[3], ARGV[3], 1)
for i = 4, 6 do
    redis.call('HINCRBY', KEYS[i], 'answers', 1)
    redis.call('HINCRBY', KEYS[i], 'prompt_tokens', ARGV[4])
    redis.call('HINCRBY', KEYS[i], 'completion_tokens', ARGV[5])
    redis.call('HINCRBY', KEYS[i], 'latency_ms', ARGV[6])
end
if KEYS[7] then
    redis.call('SET', KEYS[7], ARGV[7], 'NX', 'EX', ARGV[8])
end
return 1
