-- Saves or gets one key after the other, looks at every answer, and reports as one line of JSON.
-- Arguments after "--": "save" or "get", the store's path, the number of keys, the value's bytes.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local saves, path, keys = args[1] == "save", args[2], tonumber(args[3])
  bytes, status, wrong, at = tonumber(args[4]), saves and 204 or 200, 0, 0
  requests = {}
  local text = string.rep("x", bytes - 2)
  for n = 0, keys - 1 do
    if saves then
      local body = '[{"key":"key-' .. n .. '","value":"' .. text .. '"}]'
      requests[n] = wrk.format("POST", path, {["Content-Type"] = "application/json"}, body)
    else
      requests[n] = wrk.format("GET", path .. "/key-" .. n)
    end
  end
  count = keys
  expected = saves and 0 or bytes
end

function request()
  at = (at + 1) % count
  return requests[at]
end

function response(code, headers, body)
  if code ~= status or #body ~= expected then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local e, seen = summary.errors, 0
  for _, thread in ipairs(threads) do
    seen = seen + thread:get("wrong")
  end
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, ' ..
    '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, seen, e.timeout))
end
