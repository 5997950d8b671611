-- One page of a user's settlements, newest first, with the requests that each has paid for; and what is not settled.
--
-- KEYS  1 zset settlement JSON -> to_cum  2 zset request id -> cum right after it  3 hash of the user's credit
-- ARGV  1 greatest to_cum, as ZRANGEBYSCORE takes it  2 most settlements  3 most request ids of each
-- Returns {settlements as JSON, for each the list of its request ids, tokens not settled, their request ids}.
--
-- Invariant: reads only; a request id is in one place at most.

local most = ARGV[3]

local function requests(above, up_to)
    return redis.call('ZREVRANGEBYSCORE', KEYS[2], up_to, '(' .. above, 'LIMIT', 0, most)
end

local settlements = redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], '-inf', 'LIMIT', 0, ARGV[2])
local paid = {}
for i, json in ipairs(settlements) do
    local settlement = cjson.decode(json)
    -- Lua would write a large number with an exponent and 14 digits.
    local above, up_to = string.format('%.0f', settlement['from_cum']), string.format('%.0f', settlement['to_cum'])
    paid[i] = requests(above, up_to)
end
local credit = redis.call('HMGET', KEYS[3], 'cum', 'settled')
local settled = credit[2] or '0'
local unsettled = math.max(0, tonumber(credit[1] or 0) - tonumber(settled))
return {settlements, paid, string.format('%.0f', unsettled), requests(settled, '+inf')}
