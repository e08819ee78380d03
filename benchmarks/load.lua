-- Sends the tokens of a file by turns, and prints what came of it as JSON.

local requests, place = {}, 0

function init(arguments)
  for token in io.lines(arguments[1]) do
    local headers = { ["Authorization"] = "Bearer " .. token }
    requests[#requests + 1] = wrk.format("GET", nil, headers)
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency)
  local errors = 0
  for _, count in pairs(summary.errors) do
    errors = errors + count
  end
  print(string.format(
    '{"requests": %d, "microseconds": %d, "errors": %d, "p99": %d}',
    summary.requests, summary.duration, errors, latency:percentile(99)
  ))
end
