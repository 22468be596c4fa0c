-- What wrk sends, and what it says at the end.
--
--     wrk ... -s lua/load.lua URL -- FILE...
--
-- Each FILE holds the bytes of one request (or of several that go out at once); they are sent in
-- turn.  Without files it is wrk's own request.  There must be no function `response`: wrk would
-- then make tables of all header fields of every answer.

local requests = {}

-- Once for each thread, which has a Lua state of its own.
function init(files)
   for i, name in ipairs(files) do
      local file = assert(io.open(name, "rb"))
      requests[i] = file:read("*a")
      file:close()
   end
   if #requests == 1 then
      -- wrk calls this once and shares the bytes between all connections.
      wrk.format = function() return requests[1] end
   elseif #requests > 1 then
      local turn = 0
      request = function()
         turn = turn % #requests + 1
         return requests[turn]
      end
   end
end

-- One line of JSON.  Times are microseconds in wrk, milliseconds here.
function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "bytes": %.0f, ' ..
      '"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d, ' ..
      '"p50": %.3f, "p99": %.3f, "p999": %.3f}\n',
      summary.requests, summary.duration / 1e6, summary.bytes,
      errors.connect, errors.read, errors.write, errors.timeout, errors.status,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      latency:percentile(99.9) / 1e3))
end
