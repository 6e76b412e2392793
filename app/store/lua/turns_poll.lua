-- ARGV: tickets of one node that wait. Answers for each: 0: it waits; n: its turn is there, in bucket n; -1: it was
-- displaced; -2: it is not known here.
for at = FIRST, #ARGV do redis.call('ZADD', ALIVE, 'XX', now_ms + claim_ms, ARGV[at]) end
forget_dead()
let_in()
keep_for_a_while()
local answer = {}
for at = FIRST, #ARGV do
  local id = ARGV[at]
  local state = redis.call('HGET', TICKETS, id)
  local bucket = state and string.match(state, '^in (%d+)$')
  if bucket or state == 'out' then
    redis.call('HDEL', TICKETS, id)
    redis.call('ZREM', ALIVE, id)
  end
  if bucket then
    lease(INSIDE, id, lease_ms)
    answer[#answer + 1] = tonumber(bucket)
  elseif state == 'out' then
    answer[#answer + 1] = -1
  else
    answer[#answer + 1] = state and 0 or -2
  end
end
return answer
