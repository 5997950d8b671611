-- Looks up what is known of a wallet's tier, and settles who asks the contract when that is wanted.
--
-- KEYS[1]  hash: credit, read_at, fresh_until
-- KEYS[2]  string: the token of the one who asks now
-- ARGV     a token, life of the claim in ms, now in seconds, "1" to claim also while it is fresh
-- Returns  {credit or "", read_at, fresh_until, 1 when the caller is to ask the contract, else 0}
--
-- Invariant: of all who find an entry to be read anew, one at a time is told to read it.

local credit = redis.call('HGET', KEYS[1], 'credit') or ''
local read_at = redis.call('HGET', KEYS[1], 'read_at') or '0'
local fresh_until = redis.call('HGET', KEYS[1], 'fresh_until') or '0'
local claimed = 0
if ARGV[4] == '1' or tonumber(fresh_until) <= tonumber(ARGV[3]) then
  claimed = redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
end
return {credit, read_at, fresh_until, claimed}
