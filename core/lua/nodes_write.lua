-- Shares what the leader knows of the nodes.
--
-- KEYS  1 string: the number of the last lead  2 string: the snapshot  3 string: its version
-- ARGV  1 the number of the writer's lead  2 the snapshot  3 its life in seconds
-- Returns the new version, or an empty string when a later leader has taken over: then nothing is written.
--
-- Invariant: a snapshot is never followed by one of an earlier leader. No two have the same version, also when Redis
-- was emptied between them: it is a time.

if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or 0) then
    return ''
end
local time = redis.call('TIME')
local version = time[1] .. '.' .. time[2]
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
redis.call('SET', KEYS[3], version, 'EX', ARGV[3])
return version
