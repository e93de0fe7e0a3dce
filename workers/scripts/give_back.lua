-- Put bunches back at the head of the lists they came from.
--
-- KEYS[1]    the index of bunches
-- KEYS[2..]  bunches; without any, those fetched longer ago than ARGV[1] milliseconds of Redis time
--
-- Returns how many envelopes went back.
local bunches = {}
for number = 2, #KEYS do
  bunches[#bunches + 1] = KEYS[number]
end
if #bunches == 0 then
  local now = redis.call('TIME')
  local before = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(ARGV[1])
  bunches = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, 16)
end

local moved = 0
for _, bunch in ipairs(bunches) do
  local entries = redis.call('LRANGE', bunch, 0, -1)
  -- The last popped goes back first, so that the first popped is at the head again.
  for number = #entries - 1, 1, -2 do
    redis.call('RPUSH', entries[number], entries[number + 1])
    moved = moved + 1
  end
  redis.call('UNLINK', bunch)
  redis.call('ZREM', KEYS[1], bunch)
end
return moved
