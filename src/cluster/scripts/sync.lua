-- SYNC: the only script that creates or changes an epoch.
-- KEYS: hash, stream. ARGV: identity of the server, epoch to use if one is needed, node, base, seconds to live, members, sweep.
local hash, stream = KEYS[1], KEYS[2]
local server, fresh, node, base, ttl, members = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local kept = redis.call('HMGET', hash, 'e', 'g', 'n', 'pe', 'pn', 'd' .. node)
local e, n, pe, pn, d = kept[1], tonumber(kept[3]) or 0, kept[4] or '0', tonumber(kept[5]) or 0, tonumber(kept[6]) or 0
if not e then
    -- Nothing is known: a new epoch, and its numbers begin at 1.
    e, n, pe, pn = fresh, 0, '0', 0
    redis.call('DEL', stream)
    redis.call('HSET', hash, 'e', e, 'g', server, 'n', 0, 'pe', 0, 'pn', 0)
elseif kept[2] ~= server then
    -- Another process has the data of an earlier one, and maybe not all: a new epoch whose numbers go on.
    pe, pn, e = e, n, fresh
    redis.call('HSET', hash, 'e', e, 'g', server, 'pe', pe, 'pn', pn)
end
if base > 0 and d < base - 1 then
    d = base - 1
    redis.call('HSET', hash, 'd' .. node, d)
end
local now = redis.call('TIME')[1]
redis.call('HSET', hash, 'm' .. node, members .. ' ' .. now)
if ARGV[7] == '1' then
    -- Nodes that said nothing for this long are gone.
    local all = redis.call('HGETALL', hash)
    for at = 1, #all, 2 do
        local name, heard = string.match(all[at], '^m(.+)$'), string.match(all[at + 1], ' (%d+)$')
        if name and heard and tonumber(now) - tonumber(heard) > ttl then
            redis.call('HDEL', hash, 'm' .. name, 'd' .. name)
        end
    end
end
redis.call('EXPIRE', hash, ttl)
return {tonumber(e), n, tonumber(pe), pn, d}
