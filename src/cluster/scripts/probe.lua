-- PROBE: a write, and a token on the worker's own channel. A replica accepts PUBLISH; only a write finds out.
-- KEYS: the worker's own key. ARGV: channel, token.
redis.call('SET', KEYS[1], '', 'EX', 30)
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
