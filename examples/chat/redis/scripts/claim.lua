-- Gives a name to a session. Returns nothing if another user has the name, otherwise the older session of this user.
-- ARGV: name, key, node, member (empty: only check)
local name = 'chat:name:' .. ARGV[1]
local older = ''
local owner = redis.call('GET', name)
if owner then
  local claim = cjson.decode(owner)
  -- The names of a node that has failed are free.
  if claim.node == ARGV[3] or redis.call('EXISTS', 'chat:node:' .. claim.node) == 1 then
    if ARGV[2] == '' or claim.key ~= ARGV[2] then
      return false
    end
    older = owner
  end
end
if ARGV[4] ~= '' then
  local claim = { key = ARGV[2], node = ARGV[3], member = tonumber(ARGV[4]) }
  redis.call('SET', name, cjson.encode(claim), 'EX', 60)
end
return older
