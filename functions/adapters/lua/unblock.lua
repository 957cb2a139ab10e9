-- unblock: the user's held jobs wait like anybody's again; at most 100 a call are let in.
-- ARGV[2] user
-- -> 1 when more are to be let in, else 0
local line, pool = functions_of_line()
local user, held = ARGV[2], pool.held .. ARGV[2]
local slots = tonumber(redis.call('HGET', pool.slots, user) or 0)
if slots >= line.blocked then
  slots = redis.call('HINCRBY', pool.slots, user, -line.blocked)
  redis.call('SREM', pool.blocked, user)
  if slots == 0 then redis.call('HDEL', pool.slots, user) end
  line.show(user)
end
local most = slots + 100
while slots < pool.cap and redis.call('EXISTS', held) == 1 do
  if slots == most then return 1 end
  line.let_in(user)
  slots = slots + 1
end
line.fill()
return 0
