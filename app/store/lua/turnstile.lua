-- The turnstile of app/accounts/turnstile.py, put between window.lua and the scripts of turns. KEYS: requests, tokens
-- (windows); inside (leases); queue (ticket -> tag); alive (ticket -> end, unless its node asks again); tickets (ticket
-- -> `tokens key`, once let in `in bucket`, once displaced `out`); tags (key -> its last); state (`tag` let in last,
-- `turn_ms`, how long turns take).
-- ARGV: span, lease, claim (ms); rpm, tpm, concurrency, -1 where there is no bound; then those of the script.
local INSIDE, QUEUE, ALIVE, TICKETS, TAGS, STATE = KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local span_ms, lease_ms, claim_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local rpm, tpm, slots = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local requests, tokens = opened(KEYS[1], span_ms), opened(KEYS[2], span_ms)
local FIRST = 7

local function counted(weight)
  if tpm < 0 then return weight end
  return math.max(1, math.min(weight, tpm))
end

local function windows_open_in_ms(places, weight)
  local wait_ms = 0
  if rpm >= 0 then wait_ms = room_in_ms(requests, places, rpm) end
  if tpm >= 0 then wait_ms = math.max(wait_ms, room_in_ms(tokens, weight, tpm)) end
  return wait_ms
end

local function room_for(ahead, weight)
  for _, id in ipairs(ahead) do
    weight = weight + counted(tonumber(string.match(redis.call('HGET', TICKETS, id), '^(%d+) ')))
  end
  local wait_ms = windows_open_in_ms(#ahead + 1, weight)
  if slots < 0 then return wait_ms end
  if slots == 0 then return NEVER_MS end
  local missing = leases(INSIDE) + #ahead + 1 - slots
  if missing <= 0 then return wait_ms end
  local turn_ms = tonumber(redis.call('HGET', STATE, 'turn_ms') or 0)
  return math.ceil(math.max(wait_ms, 1, missing * turn_ms / slots))
end

local function let_one_in(id, weight)
  lease(INSIDE, id, lease_ms)
  add(tokens, counted(weight))
  return add(requests, 1)
end

local function forget_dead()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ALIVE, '-inf', now_ms)) do
    redis.call('ZREM', QUEUE, id)
    redis.call('ZREM', ALIVE, id)
    redis.call('HDEL', TICKETS, id)
  end
end

local function let_in()
  while true do
    local first = redis.call('ZRANGE', QUEUE, 0, 0, 'WITHSCORES')
    if #first == 0 then break end
    local weight = tonumber(string.match(redis.call('HGET', TICKETS, first[1]), '^(%d+) '))
    if room_for({}, counted(weight)) > 0 then return end
    redis.call('ZREM', QUEUE, first[1])
    redis.call('HSET', STATE, 'tag', first[2])
    local bucket = let_one_in(first[1], weight)
    redis.call('HSET', TICKETS, first[1], 'in ' .. bucket)
    lease(INSIDE, first[1], claim_ms) -- its node must come for it
  end
  redis.call('DEL', TAGS)
  redis.call('HDEL', STATE, 'tag')
end

local function quit(id)
  local tag = redis.call('ZSCORE', QUEUE, id)
  if not tag then return 0 end
  local weight, key = string.match(redis.call('HGET', TICKETS, id), '^(%d+) (.*)$')
  if redis.call('HGET', TAGS, key) == tag then redis.call('HINCRBY', TAGS, key, -1) end
  local rank = redis.call('ZRANK', QUEUE, id)
  local ahead = rank > 0 and redis.call('ZRANGE', QUEUE, 0, rank - 1) or {}
  local wait_ms = room_for(ahead, counted(tonumber(weight)))
  redis.call('ZREM', QUEUE, id)
  return wait_ms
end

local function keep_for_a_while()
  for at = 4, 8 do redis.call('PEXPIRE', KEYS[at], 2 * math.max(span_ms, lease_ms)) end
end
