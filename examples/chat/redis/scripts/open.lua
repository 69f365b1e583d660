-- Creates a room unless it exists. Returns its epoch, the offset of its last message, and its messages.
-- ARGV: room, a new epoch, the maximum number of rooms
local now = tonumber(redis.call('TIME')[1])
local room = 'chat:room:' .. ARGV[1]
if not redis.call('HGET', room, 'epoch') then
  if redis.call('ZCARD', 'chat:rooms') >= tonumber(ARGV[3]) then
    -- Replaces the room that has been empty longest.
    local oldest = redis.call('ZRANGE', 'chat:rooms', 0, 1, 'WITHSCORES')
    local index = oldest[1] == 'lobby' and 3 or 1
    if not oldest[index] or tonumber(oldest[index + 1]) > now - 10 then
      return false
    end
    redis.call('ZREM', 'chat:rooms', oldest[index])
    redis.call('DEL', 'chat:room:' .. oldest[index], 'chat:messages:' .. oldest[index])
  end
  redis.call('HSET', room, 'epoch', ARGV[2], 'last', 0)
  redis.call('DEL', 'chat:messages:' .. ARGV[1])
end
redis.call('ZADD', 'chat:rooms', now, ARGV[1])
return {
  redis.call('HGET', room, 'epoch'),
  tonumber(redis.call('HGET', room, 'last')),
  redis.call('XRANGE', 'chat:messages:' .. ARGV[1], '-', '+'),
}
