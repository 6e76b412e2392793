-- KEYS: the nodes. ARGV: for how long this one is known (ms), its id; 'gone' where it ends. Answers how many there are.
if ARGV[3] == 'gone' then redis.call('ZREM', KEYS[1], ARGV[2]) else lease(KEYS[1], ARGV[2], tonumber(ARGV[1])) end
return leases(KEYS[1])
