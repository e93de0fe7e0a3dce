-- Pop envelopes from the lists of some queues into one bunch, without looking into them.
--
-- KEYS[1]    the index: a sorted set of bunches by Redis time of their fetch, in milliseconds
-- KEYS[2]    the new bunch: a list of key, raw, key, raw, ... in the order of popping
-- KEYS[3..]  the lists, each queue's in its order of service
-- ARGV[1]    lists per queue
-- ARGV[2..]  for each list: how many envelopes there is room for, what more urgent lists of its queue give
--            included, and how many of these are its own whatever they give
--
-- Returns 1 for a bunch that was popped, or 0 for one that was only read, then the bunch.
local now = redis.call('TIME')
-- Before anything is popped: when memory is short Redis refuses this. Then the heads are only read, for a bunch
-- could not be kept, and the ack removes them one by one: deleting is what makes room again.
local added = redis.pcall('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000), KEYS[2])
local keeps = type(added) == 'number'

local bunch = {keeps and 1 or 0}
local read = {}

local function head(key, count)
  if keeps then return redis.call('RPOP', key, count) or {} end
  local skip = read[key] or 0
  local entries = redis.call('LRANGE', key, -(skip + count), -(skip + 1))
  read[key] = skip + #entries
  local reversed = {}
  for number = #entries, 1, -1 do reversed[#reversed + 1] = entries[number] end
  return reversed
end

local function take(key, count)
  if count < 1 then return 0 end
  local entries = head(key, count)
  for _, raw in ipairs(entries) do
    bunch[#bunch + 1] = key
    bunch[#bunch + 1] = raw
  end
  return #entries
end

local width = tonumber(ARGV[1])
local queues = (#KEYS - 2) / width
for queue = 0, queues - 1 do
  local taken = 0
  for step = 1, width do
    local list = queue * width + step
    local room, reserved = tonumber(ARGV[2 * list]), tonumber(ARGV[2 * list + 1])
    taken = taken + take(KEYS[2 + list], math.max(reserved, room - taken))
  end
end

if not keeps then return bunch end
if #bunch == 1 then
  redis.call('ZREM', KEYS[1], KEYS[2])
  return bunch
end
-- Lua passes only some thousands of arguments at once.
for first = 2, #bunch, 1000 do
  redis.call('RPUSH', KEYS[2], unpack(bunch, first, math.min(first + 999, #bunch)))
end
return bunch
