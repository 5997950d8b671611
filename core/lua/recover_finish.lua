-- Begins a new life of the journal.
--
-- KEYS  1 string: epoch  2 string: next nonce  3 string: run_id of the Redis that it is written under
--       4 string: the nonce from which on nobody can have signed
-- ARGV  1 epoch  2 run_id at the beginning of the recovery  3 next nonce  4 the most open transactions
-- Returns 1, or 0 when another recovery began, one has ended, or Redis was restarted meanwhile.
--
-- Invariant: a journal is trusted only as long as the Redis that it was written under runs.

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 1 or run ~= ARGV[2] then
    return 0
end
redis.call('SET', KEYS[3], run)
redis.call('SET', KEYS[2], ARGV[3])
redis.call('SET', KEYS[4], string.format('%.0f', ARGV[3] + ARGV[4])) -- a plan keeps it as far ahead
return 1
