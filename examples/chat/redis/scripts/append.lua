-- Adds a message, unless its room already has it. Returns the epoch of the room and the offset of the message.
-- ARGV: room, a new epoch, the number of messages to keep, the sender and the id of the message, the message
local room, messages = 'chat:room:' .. ARGV[1], 'chat:messages:' .. ARGV[1]
local epoch = redis.call('HGET', room, 'epoch')
if not epoch then
  epoch = ARGV[2]
  redis.call('HSET', room, 'epoch', epoch, 'last', 0)
  redis.call('DEL', messages)
  redis.call('ZADD', 'chat:rooms', redis.call('TIME')[1], ARGV[1])
end
-- The page resends the message if it has not received the acknowledgement.
local sent = 'chat:sent:' .. epoch .. ':' .. ARGV[4]
local known = redis.call('GET', sent)
if known then
  return { epoch, tonumber(known) }
end
local offset = redis.call('HINCRBY', room, 'last', 1)
-- The id of the entry is the offset: a node that reads detects missing messages.
local id = string.format('%d-0', offset)
redis.call('XADD', messages, 'MAXLEN', '~', ARGV[3], id, 'epoch', epoch, 'message', ARGV[5])
redis.call('SET', sent, offset, 'EX', 600)
return { epoch, offset }
