-- Hands out a nonce for one address: the fresh one, or, when `most` are open, the newest-created of those.
--
-- KEYS[1]  hash: nonce -> "issued_ms|expires_ms|origin"
-- ARGV     fresh nonce, life in ms, most open nonces, origin
-- Returns  {nonce, issued_ms, origin}
--
-- Invariant: an open nonce is never taken away, so nobody can lock anybody out by asking. A renewal can't stretch
-- a nonce beyond two lives: while `most` are open the newest is younger than one life, since the others, which
-- are not renewed any more, end within one life of its creation.

local fresh, life, most, origin = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local open, newest = 0, nil
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local issued, expires, site = string.match(fields[i + 1], '^(%d+)|(%d+)|(.*)$')
  if tonumber(expires) <= now then
    redis.call('HDEL', KEYS[1], fields[i])
  else
    open = open + 1
    if not newest or tonumber(issued) > tonumber(newest[2]) then
      newest = {fields[i], issued, site}
    end
  end
end

local given = newest
if open < most then
  local issued = newest and math.max(now, newest[2] + 1) or now -- no two alike, so that one is the newest
  given = {fresh, string.format('%d', issued), origin}
end
redis.call('HSET', KEYS[1], given[1], string.format('%s|%d|%s', given[2], now + life, given[3]))
redis.call('PEXPIRE', KEYS[1], life) -- no open nonce outlives the one that was given last
return given
