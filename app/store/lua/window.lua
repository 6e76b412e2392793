-- The sliding window of app/accounts/sliding.py, in a hash: the number of a bucket -> its weight; `total` of all
-- buckets; the numbers of the `oldest` that may be there and of the `newest`. Put before every other script.

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local NEVER_MS = 10000000000

local function numbers(from, to)
  local list = {}
  for number = from, to do list[#list + 1] = number end
  return list
end

local function opened(key, span_ms)
  local width_ms = math.max(1, math.floor(span_ms / 600))
  local head = redis.call('HMGET', key, 'total', 'oldest', 'newest')
  local window = { key = key, span_ms = span_ms, width_ms = width_ms, total = tonumber(head[1]) or 0,
                   oldest = tonumber(head[2]), newest = tonumber(head[3]) }
  local first = math.floor((now_ms - span_ms) / width_ms)
  if not window.newest then return window end
  if window.newest < first then
    redis.call('DEL', key)
    window.total, window.oldest, window.newest = 0, nil, nil
  elseif window.oldest < first then
    local gone = numbers(window.oldest, first - 1)
    for _, weight in ipairs(redis.call('HMGET', key, unpack(gone))) do
      window.total = window.total - (tonumber(weight) or 0)
    end
    redis.call('HDEL', key, unpack(gone))
    redis.call('HSET', key, 'total', window.total, 'oldest', first)
    window.oldest = first
  end
  return window
end

local function add(window, weight)
  -- no earlier than the newest: the server's clock may be set back
  local number = math.max(math.floor(now_ms / window.width_ms), window.newest or 0)
  redis.call('HINCRBY', window.key, number, weight)
  window.total = window.total + weight
  window.oldest, window.newest = window.oldest or number, number
  redis.call('HSET', window.key, 'total', window.total, 'oldest', window.oldest, 'newest', number)
  redis.call('PEXPIRE', window.key, 2 * window.span_ms)
  return number
end

local function correct(window, bucket, more)
  if more ~= 0 and window.oldest and bucket >= window.oldest and bucket <= window.newest then
    redis.call('HINCRBY', window.key, bucket, more)
    window.total = window.total + more
    redis.call('HSET', window.key, 'total', window.total)
  end
end

local function end_ms(window, number)
  return (number + 1) * window.width_ms + window.span_ms
end

local function gone_in_ms(window, weight)
  if weight <= 0 or not window.newest then return 0 end
  if weight < window.total then
    local list = numbers(window.oldest, window.newest)
    for at, found in ipairs(redis.call('HMGET', window.key, unpack(list))) do
      weight = weight - (tonumber(found) or 0)
      if weight <= 0 then return end_ms(window, list[at]) - now_ms end
    end
  end
  return end_ms(window, window.newest) - now_ms
end

local function room_in_ms(window, weight, limit)
  if limit <= 0 then return NEVER_MS end
  local spans = math.floor((weight - 1) / limit)
  local excess = window.total + weight - spans * limit - limit
  return spans * (window.span_ms + window.width_ms) + gone_in_ms(window, excess)
end

local function lease(key, id, for_ms)
  redis.call('ZADD', key, now_ms + for_ms, id)
  -- for the longest lease, and so for any
  if redis.call('PTTL', key) < 2 * for_ms then redis.call('PEXPIRE', key, 2 * for_ms) end
end

local function leases(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now_ms)
  return redis.call('ZCARD', key)
end
