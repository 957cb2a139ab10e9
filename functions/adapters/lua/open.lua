-- open: one reason less for the pool to be closed.
-- ARGV[2] reason
local line = functions_of_line()
line.open(ARGV[2])
