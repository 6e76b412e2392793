-- KEYS: windows, then slots. ARGV: span (ms), lease id, bucket, how many windows; what is added to each.
local count = tonumber(ARGV[4])
for at = 1, count do correct(opened(KEYS[at], tonumber(ARGV[1])), tonumber(ARGV[3]), tonumber(ARGV[4 + at])) end
for at = count + 1, #KEYS do redis.call('ZREM', KEYS[at], ARGV[2]) end
return 0
