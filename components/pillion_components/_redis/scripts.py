"""What the server does in one step each. Keys hold hashes with ``data`` and ``version``.

That is the layout of Dapr's Redis store, so what Dapr has written can be read and the other way
round. Here a new key starts with a version that was never there, so that the tag of a key that
was deleted and made again does not come back.
"""

from __future__ import annotations

READ = """
local found = redis.pcall('HMGET', KEYS[1], 'data', 'version')
if found.err then
  local text = redis.pcall('GET', KEYS[1])
  if type(text) ~= 'string' then return 'foreign' end
  return {text, '0', redis.call('PTTL', KEYS[1])}
end
if found[1] then return {found[1], found[2] or '0', redis.call('PTTL', KEYS[1])} end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'foreign' end
return false
"""
"""One key. Returns the value, its version and its remaining milliseconds (-1 for no end); nil when
it is missing; ``foreign`` when another program's data is there. A plain text is what Dapr's first
versions stored."""

WRITE = """
local now, plain = {}, {}
for i, key in ipairs(KEYS) do
  local kind, tag = ARGV[i * 5 - 4], ARGV[i * 5 - 3]
  local version = now[key]
  if version == nil then
    version = redis.pcall('HGET', key, 'version')
    if type(version) == 'table' then
      if redis.call('TYPE', key).ok ~= 'string' then return -i end
      version, plain[key] = '0', true
    elseif version then
      if not string.match(version, '^%d+$') then return -i end
    elseif redis.call('EXISTS', key) == 1 then
      if redis.call('HEXISTS', key, 'data') == 0 then return -i end
      version = '0'
    end
  end
  if kind == 'create' then
    if version then return i end
  elseif tag ~= '' and tag ~= version then
    return i
  end
  now[key] = kind ~= 'delete' and 'written'
end
for i, key in ipairs(KEYS) do
  local at = i * 5
  if ARGV[at - 4] == 'delete' then
    redis.call('DEL', key)
  else
    if plain[key] then
      redis.call('DEL', key)
    end
    if redis.call('EXISTS', key) == 0 then
      redis.call('HSET', key, 'data', ARGV[at - 2], 'version', ARGV[at])
    else
      redis.call('HSET', key, 'data', ARGV[at - 2])
      redis.call('HINCRBY', key, 'version', 1)
    end
    if ARGV[at - 1] ~= '' then
      redis.call('EXPIRE', key, ARGV[at - 1])
    else
      redis.call('PERSIST', key)
    end
  end
  plain[key] = nil
end
return 0
"""
"""Any number of changes, all or none. Five values per key: ``put``, ``create`` or ``delete``; the
version that must be there, empty for any; the value; seconds until it ends, empty for no end; the
version of a new key. Returns 0, or the number of the change whose condition does not hold, or the
same below zero when another program's data is there."""

LOCK = """
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
local time = redis.call('TIME')
local token = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
if token <= last then token = last + 1 end
redis.call('SET', KEYS[2], string.format('%.0f', token))
return token
"""
"""Take a lock. Returns 0 when it is held. The fencing token is one more than the last one, and at
least the server's microseconds since the epoch, so that it grows even when data were lost."""

RENEW = """
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Set the milliseconds of a lock anew. Returns 0 when the owner does not hold it."""

UNLOCK = """
local owner = redis.pcall('GET', KEYS[1])
if not owner then return 1 end
if owner ~= ARGV[1] then return 2 end
redis.call('DEL', KEYS[1])
return 0
"""
"""Give a lock up. Returns 1 when there is none, 2 when it is another's."""
