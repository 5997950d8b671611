-- Shows whether a script may run here and write.
--
-- KEYS[1]  string: the mark
-- ARGV     how long to keep it, in seconds
-- Returns  1
--
-- Invariant: nothing else is read or written.

redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
return 1
