-- block: the user's waiting jobs are held until the end of the block. What is leased goes on.
-- ARGV[2] user   ARGV[3].. jobs of the user that may stand in the line: no set knows them by user
local line, pool = functions_of_line()
local user = ARGV[2]
if tonumber(redis.call('HGET', pool.slots, user) or 0) < line.blocked then
  redis.call('HINCRBY', pool.slots, user, line.blocked)
  redis.call('SADD', pool.blocked, user)
  local first = redis.call('ZRANGE', pool.held .. user, 0, 0)[1]
  if first then redis.call('ZREM', pool.heads .. line.read(first).tier, user) end
end
for i = 3, #ARGV do
  local record = line.read(ARGV[i])
  if record and record.user == user and record.worker == '' and not redis.call('ZSCORE', pool.delayed, ARGV[i]) then
    line.leave(ARGV[i], record)
    line.hold_back(ARGV[i], record.due, user, record.tier)
  end
end
line.fill()
