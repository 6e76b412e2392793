-- ARGV: ticket, key, tokens; how long it would wait (ms, -1: not at all), how many may wait.
-- Answers {1, bucket}: inside; {0}: it would have to wait; {2}: it waits; {3, ms}: its turn would take so long.
local id, key, weight = ARGV[FIRST], ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2])
local within_ms, length = tonumber(ARGV[FIRST + 3]), tonumber(ARGV[FIRST + 4])
forget_dead()
let_in()
local waiting = redis.call('ZCARD', QUEUE)
if waiting == 0 and room_for({}, counted(weight)) == 0 then return { 1, let_one_in(id, weight) } end
if within_ms < 0 then return { 0 } end

local tag = math.max((tonumber(redis.call('HGET', TAGS, key)) or 0) + 1, tonumber(redis.call('HGET', STATE, 'tag')) or 0)
local ahead = redis.call('ZRANGEBYSCORE', QUEUE, '-inf', tag)
local wait_ms = room_for(ahead, counted(weight))
if wait_ms > within_ms or #ahead >= length then return { 3, wait_ms } end
if waiting >= length then
  local last = redis.call('ZRANGE', QUEUE, -1, -1)[1]
  quit(last)
  redis.call('HSET', TICKETS, last, 'out')
end
redis.call('ZADD', QUEUE, tag, id)
redis.call('ZADD', ALIVE, now_ms + claim_ms, id)
redis.call('HSET', TICKETS, id, weight .. ' ' .. key)
redis.call('HSET', TAGS, key, tag)
keep_for_a_while()
return { 2 }
