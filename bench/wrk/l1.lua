-- L1: one record of about 150 bytes per request.
wrk.method = "POST"
wrk.path = "/v1/logs"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"timestamp":"2025-08-25T10:00:00.123456Z","service":"corerl","level":"INFO","message":"Agent step finished in 12 ms","correlation_id":"abc-000123"}'
