-- PUB: numbers a batch and publishes it, once.
-- KEYS: hash, stream. ARGV: epoch, node, seq, count, the batch from its version on, channel, entries to keep, seconds to keep them.
local hash, stream = KEYS[1], KEYS[2]
local epoch, node, seq, count, rest, channel, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6], tonumber(ARGV[7])
local kept = redis.call('HMGET', hash, 'e', 'n', 'd' .. node)
if kept[1] ~= epoch then
    return -1
end
local n, d = tonumber(kept[2]), tonumber(kept[3]) or 0
if seq <= d then
    return 0
end
if seq ~= d + 1 then
    return -2
end
local first, time = n + 1, redis.call('TIME')
local batch = struct.pack('>I8I8', first, time[1] * 1000 + math.floor(time[2] / 1000)) .. rest
if keep > 0 then
    -- First of all that writes: if this fails, nothing has changed.
    redis.call('XADD', stream, 'MAXLEN', '~', keep, first, 'b', batch)
    redis.call('EXPIRE', stream, ARGV[8])
end
-- Numbers go as numbers: `..` would write 1e14 as 1e+14.
redis.call('HSET', hash, 'n', n + count, 'd' .. node, seq)
redis.call('PUBLISH', channel, batch)
return first
