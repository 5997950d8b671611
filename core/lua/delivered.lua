-- Notes that the first piece of an answer leaves.
--
-- KEYS  1 zset of open requests
-- ARGV  1 member of the open requests
-- Returns 1 when it was open, else 0.
--
-- Invariant: what is not open any more is never handed back.

return redis.call('ZREM', KEYS[1], ARGV[1])
