-- ARGV: ticket, wherever it stands; its bucket (-1: as it is known here); what is added to its requests and tokens; how
-- long its turn took (ms, -1: it was none). Answers how long its turn would still have taken (ms).
local id, bucket = ARGV[FIRST], tonumber(ARGV[FIRST + 1])
local more_requests, more_tokens, took_ms = tonumber(ARGV[FIRST + 2]), tonumber(ARGV[FIRST + 3]), tonumber(ARGV[FIRST + 4])
forget_dead()
local wait_ms = quit(id)
local was_inside = redis.call('ZREM', INSIDE, id)
if bucket < 0 then
  local state = redis.call('HGET', TICKETS, id)
  bucket = tonumber(state and string.match(state, '^in (%d+)$') or -1)
end
redis.call('ZREM', ALIVE, id)
redis.call('HDEL', TICKETS, id)
correct(requests, bucket, more_requests)
correct(tokens, bucket, more_tokens)
if took_ms >= 0 and was_inside == 1 then
  local before = tonumber(redis.call('HGET', STATE, 'turn_ms') or took_ms)
  redis.call('HSET', STATE, 'turn_ms', string.format('%.3f', before + 0.2 * (took_ms - before)))
  redis.call('PEXPIRE', STATE, 2 * math.max(span_ms, lease_ms))
end
let_in()
return wait_ms
