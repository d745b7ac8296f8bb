-- POST /api/v1/runs: one run a request, each with an event_id of its own.
local id = 0
local salt = os.getenv("RUNS_SALT") or tostring(os.time())
local head = '{"event_id":"' .. salt .. "-"
local tail = '","run_id":"20261121T120000Z-crawler-0a1b2c3d","start_time":"2026-11-21T12:00:00+00:00","agent_name":"crawler","job_type":"nightly",' ..
    '"status":"running","product":"aspose","platform":"net","website":"docs.example.com","items_discovered":12,"host":"worker-07",' ..
    '"metrics_json":{"pages":12,"errors":0},"git_repo":"git@github.com:example/crawler.git","git_branch":"main"}'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
    id = id + 1
    return wrk.format(nil, "/api/v1/runs", nil, head .. id .. tail)
end
