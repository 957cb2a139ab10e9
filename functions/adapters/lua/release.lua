-- release: the runner that holds the job is done with it, or gives it back to the place it had.
-- ARGV[2] job id   ARGV[3] worker   ARGV[4] '1' to give it back, else '0'
-- -> 1 when it was this worker's to release, else 0
local line, pool = functions_of_line()
local job = ARGV[2]
local record = line.read(job)
if not record or record.worker ~= ARGV[3] then return 0 end
if ARGV[4] == '1' then
  line.come_back(job, record)
else
  line.leave(job, record)
  redis.call('HDEL', pool.jobs, job)
end
line.fill()
return 1
