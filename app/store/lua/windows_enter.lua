-- KEYS: windows, then slots. ARGV: span, lease (ms), lease id, how many windows; limit and weight of each; limit of
-- each slots. Answers what lacks (0: nothing, the n-th key), the wait in ms, the bucket; total and reset in ms of each
-- window.
local span_ms, lease_ms, id, count = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local windows, lacking, wait_ms, bucket = {}, 0, 0, 0
for at = 1, count do
  local limit, weight = tonumber(ARGV[3 + 2 * at]), tonumber(ARGV[4 + 2 * at])
  windows[at] = opened(KEYS[at], span_ms)
  local room_ms = room_in_ms(windows[at], weight, limit)
  if room_ms > wait_ms then lacking, wait_ms = at, room_ms end
end
for at = count + 1, #KEYS do
  local limit = tonumber(ARGV[4 + count + at])
  if lacking == 0 and leases(KEYS[at]) >= limit then lacking, wait_ms = at, 1000 end
end
if lacking == 0 then
  for at = 1, count do bucket = add(windows[at], tonumber(ARGV[4 + 2 * at])) end
  for at = count + 1, #KEYS do lease(KEYS[at], id, lease_ms) end
end
local answer = { lacking, wait_ms, bucket }
for at = 1, count do
  answer[#answer + 1] = windows[at].total
  answer[#answer + 1] = gone_in_ms(windows[at], windows[at].total)
end
return answer
