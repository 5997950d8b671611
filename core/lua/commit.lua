-- Counts one answer.
--
-- KEYS  1 mark that the answer is counted  2 zset of open requests  3, 4 hashes of totals: the fleet's, the node's
-- ARGV  1 member of the open requests  2 prompt tokens  3 completion tokens  4 life of the mark in seconds
-- Returns 1 when it was counted now, 0 when it was before.
--
-- Invariant: an answer is in both totals or in none, and once.

redis.call('ZREM', KEYS[2], ARGV[1])
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[4]) then
    return 0
end
for i = 3, 4 do
    redis.call('HINCRBY', KEYS[i], 'answers', 1)
    redis.call('HINCRBY', KEYS[i], 'prompt_tokens', ARGV[2])
    redis.call('HINCRBY', KEYS[i], 'completion_tokens', ARGV[3])
end
return 1
