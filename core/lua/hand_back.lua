-- Gives a request's slot back to its user.
--
-- KEYS  1 zset of open requests  2 zset of the caller's window
-- ARGV  1 member of the open requests  2 request id
-- Returns 1 when it was handed back, else 0.
--
-- Invariant: only a request that is open leaves the window, so whatever was delivered, committed, handed back or
-- reaped before is left alone.

if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
    return 0
end
redis.call('ZREM', KEYS[2], ARGV[2])
return 1
