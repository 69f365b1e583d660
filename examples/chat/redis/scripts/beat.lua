-- Reports that this node runs. Returns the members on other nodes, the epochs of the given rooms, and all rooms.
-- ARGV: node, its members, the lifetime of the report in ms, a new epoch, then for each open room: its name, its epoch,
-- the offset of the last message on this node
local now = redis.call('TIME')[1]
redis.call('SET', 'chat:node:' .. ARGV[1], ARGV[2], 'PX', ARGV[3])
redis.call('SADD', 'chat:nodes', ARGV[1])
redis.call('EXPIRE', 'chat:control:' .. ARGV[1], 60)
local nodes = {}
for _, node in ipairs(redis.call('SMEMBERS', 'chat:nodes')) do
  local people = redis.call('GET', 'chat:node:' .. node)
  if not people then
    redis.call('SREM', 'chat:nodes', node)
  elseif node ~= ARGV[1] then
    nodes[#nodes + 1] = { node, people }
  end
end
local epochs = {}
for index = 5, #ARGV, 3 do
  local room = 'chat:room:' .. ARGV[index]
  local epoch = redis.call('HGET', room, 'epoch') or ''
  -- Redis has lost messages that this node has: it was restored from an old file.
  if epoch == ARGV[index + 1] and tonumber(redis.call('HGET', room, 'last')) < tonumber(ARGV[index + 2]) then
    epoch = ARGV[4]
    redis.call('HSET', room, 'epoch', epoch)
  end
  epochs[#epochs + 1] = epoch
  redis.call('ZADD', 'chat:rooms', 'XX', now, ARGV[index])
end
return { nodes, epochs, redis.call('ZRANGE', 'chat:rooms', 0, -1) }
