-- KEYS: slots. ARGV: lease (ms), lease ids. One that was lost with the server is there again.
for at = 2, #ARGV do lease(KEYS[1], ARGV[at], tonumber(ARGV[1])) end
return 0
