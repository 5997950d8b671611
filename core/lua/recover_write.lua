-- Sets users' credit to what the chain says that they were debited.
--
-- KEYS  1 string: epoch  2 string: next nonce  3 string: run_id of the Redis that the journal was written under
--       4 zset user -> since when he owes  5 set of all users who were ever settled
-- ARGV  1 epoch  2 run_id at the beginning of the recovery  3, 4, 5 prefixes of the keys of credits, of users' charges,
--       and of charges, to which a user or a request id is added (they share the hash tag of KEYS[1])  6 the number of
--       charges after which no further user is begun, then user, tokens that he was ever debited, ...
-- Returns how many of the users are written, one at least; 0 when another recovery began, one has ended, or Redis was
-- restarted meanwhile: then nothing is written.
--
-- Invariant: settled is what the chain says, and nothing is in flight. Of a ledger that was another contract's before,
-- settled is the user's base more than that: the base is found here, the first time, and settled stays as it is.
-- A Redis that was emptied (it knows neither the user's settled nor a former journal) gets what was paid before added
-- to what was used since, and the places of those charges moved as far, without what workers charged again after the
-- loss: that may be paid already, and nobody pays twice. One that lost only its last commits gets them back by the
-- workers, and is written only after that: cum is then lifted to settled. The charges of one user are bounded by what
-- he may leave unsettled, since nothing is settled meanwhile.

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 1 or run ~= ARGV[2] then
    return 0
end
local function text(number)
    return string.format('%.0f', number)
end
local emptied = redis.call('EXISTS', KEYS[3]) == 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local moved = 0
local function move(user, by)
    for _, id in ipairs(redis.call('ZRANGE', ARGV[4] .. user, 0, -1)) do
        redis.call('ZINCRBY', ARGV[4] .. user, by, id)
        if redis.call('HEXISTS', ARGV[5] .. id, 'cum') == 1 then
            redis.call('HINCRBY', ARGV[5] .. id, 'cum', by)
        end
        moved = moved + 1
    end
end
for i = 7, #ARGV, 2 do
    local user, debited = ARGV[i], tonumber(ARGV[i + 1])
    local key = ARGV[3] .. user
    local credit = redis.call('HMGET', key, 'cum', 'settled', 'again', 'base')
    local cum, settled = tonumber(credit[1] or 0), debited + tonumber(credit[4] ~= '' and credit[4] or 0)
    if credit[4] == '' then
        settled = tonumber(credit[2])
        redis.call('HSET', key, 'base', text(settled - debited))
    elseif emptied and not credit[2] then
        local lift = settled - tonumber(credit[3] or 0)
        cum = cum + lift
        if lift ~= 0 then
            move(user, text(lift))
        end
    end
    cum = math.max(cum, settled)
    redis.call('HDEL', key, 'again')
    redis.call('HSET', key, 'cum', text(cum), 'settled', text(settled), 'inflight', '0')
    if cum > settled then
        redis.call('ZADD', KEYS[4], 'NX', now, user)
    else
        redis.call('ZREM', KEYS[4], user)
        redis.call('HDEL', key, 'debt')
    end
    if settled > 0 then
        redis.call('SADD', KEYS[5], user)
    end
    if moved >= tonumber(ARGV[6]) then
        return (i - 5) / 2
    end
end
return (#ARGV - 6) / 2
