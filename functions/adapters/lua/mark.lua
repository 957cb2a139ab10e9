-- mark: remember how often the pool was compared with Postgres, unless somebody else has, or Redis was emptied.
-- ARGV[2] what is remembered, or ''   ARGV[3] what shall be
-- -> 1 when it is remembered, else 0
local mark = name .. 'mark'
if (redis.call('GET', mark) or '') ~= ARGV[2] then return 0 end
redis.call('SET', mark, ARGV[3])
return 1
