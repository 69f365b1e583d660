-- Frees a name, unless a newer session has it.
-- ARGV: name, node, member
local name = 'chat:name:' .. ARGV[1]
local owner = redis.call('GET', name)
if owner then
  local claim = cjson.decode(owner)
  if claim.node == ARGV[2] and claim.member == tonumber(ARGV[3]) then
    redis.call('DEL', name)
  end
end
return 1
