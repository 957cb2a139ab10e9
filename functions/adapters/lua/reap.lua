-- reap: what has waited out its time comes back, so that a pool whose runners are all gone is woken again, and limits
-- that were changed meanwhile hold from now on.
-- -> how many came back
local line, pool = functions_of_line()
local back = line.due_back(now_ms())
line.mind_limit()
for _, tier in ipairs(redis.call('HKEYS', pool.tiers)) do line.admit(tier) end
line.fill()
return back
