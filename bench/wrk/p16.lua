-- P16: sixteen L1 requests written at once.
local body = '{"timestamp":"2025-08-25T10:00:00.123456Z","service":"corerl","level":"INFO","message":"Agent step finished in 12 ms","correlation_id":"abc-000123"}'
local one
local all
function init(args)
   one = wrk.format("POST", "/v1/logs", {["Content-Type"] = "application/json", ["Host"] = "127.0.0.1"}, body)
   all = string.rep(one, 16)
end
function request()
   return all
end
