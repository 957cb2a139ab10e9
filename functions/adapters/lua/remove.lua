-- remove: the job waits for nothing any more, wherever it stood.
-- ARGV[2] job id
-- -> 1 when it stood somewhere, else 0
local line, pool = functions_of_line()
local record = line.read(ARGV[2])
if not record then return 0 end
line.leave(ARGV[2], record)
redis.call('HDEL', pool.jobs, ARGV[2])
line.fill()
return 1
