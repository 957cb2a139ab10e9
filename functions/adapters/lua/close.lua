-- close: nothing of this pool is claimed, and the autoscaler sees nothing waiting, until every reason is gone.
-- ARGV[2] reason
local line = functions_of_line()
line.close(ARGV[2])
