-- LB: 1000 records per request, NDJSON.
local record = '{"timestamp":"2025-08-25T10:00:00.123456Z","service":"corerl","level":"INFO","message":"Agent step finished in 12 ms","correlation_id":"abc-000123"}\n'
wrk.method = "POST"
wrk.path = "/v1/logs"
wrk.headers["Content-Type"] = "application/x-ndjson"
wrk.body = string.rep(record, 1000)
