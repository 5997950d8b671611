-- Uses something up that may be used once, such as a signature.
--
-- KEYS[1]  string: the mark that it was used
-- ARGV     how long to remember it, in seconds
-- Returns  1 the first time; 0 while it is remembered
--
-- Invariant: of all who come with it, at most one gets 1 within that time.

return redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) and 1 or 0
