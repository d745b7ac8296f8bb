"""A sink of type http in each format, as a real upstream sees it: content type, body, keys, and that what it is told of a record is
what `sluice dump` says of it."""
import json
import unittest

from harness import Server, record, wait_until
from upstream import Upstream


def server_of(url, **more):
    settings = {"type": "http", "url": url, "linger": "10ms", "batch_records": "7", **more}
    return Server(*[word for key, value in settings.items() for word in ("--set", f"sink.up.{key}={value}")])


class HttpSink(unittest.TestCase):
    def run_with(self, read, **options):
        """What read makes of each request's body, joined, and the dump; the requests are checked for what all have in common."""
        with Upstream() as upstream, server_of(upstream.url("/in?a=b"), **options) as server:
            server.post("/v1/logs", b'[{"timestamp" :\n"2025-08-25T10:00:00Z",\r\n"service":"s","level":"INFO","message":"a\\n"}]')
            server.post("/v1/logs", [record(n, text="h\u00e9 \u20ac \"\\") for n in range(20)])
            server.post("/v1/metrics", [{"timestamp": "2025-08-25T10:00:00Z", "service": "s", "name": "n", "value": n} for n in range(5)])
            server.post("/v1/events", {"event_type": "info", "source": "s", "message": "m"})
            wait_until(lambda: server.ledger()["sinks"]["up"]["delivered"] == 27, 20)
            requests = list(upstream.requests)
            self.assertEqual(len({request.headers["idempotency-key"] for request in requests}), len(requests))
            self.assertEqual({(request.method, request.path) for request in requests}, {("POST", "/in?a=b")})
            expected = {"application/x-ndjson" if options["format"] == "ndjson" else "application/json"}
            self.assertEqual({request.headers["content-type"] for request in requests}, expected)
            return [item for request in requests for item in read(request)], list(server.dump())

    def expect_dump(self, told, dumped):
        plain = [{key: line[key] for key in ("id", "lsn", "kind", "received_at", "record")} for line in dumped]
        self.assertEqual(sorted(told, key=lambda item: item["lsn"]), plain)

    def test_ndjson_says_what_dump_says(self):
        self.expect_dump(*self.run_with(lambda request: [json.loads(line) for line in request.body.decode().split("\n")[:-1]],
                                        format="ndjson", compression="gzip"))

    def test_array_says_what_dump_says(self):
        self.expect_dump(*self.run_with(lambda request: json.loads(request.body), format="array", compression="zstd"))

    def test_object_says_what_dump_says_in_its_lists(self):
        def read(request):
            body = json.loads(request.body)
            self.assertEqual(body["batch_id"], request.headers["idempotency-key"])
            self.assertEqual(body["source"], "edge \"7\"")
            self.assertEqual(list(body)[:5], ["batch_id", "source", "sent_at", "logs", "metrics"])
            for name, kind in (("logs", "log"), ("metrics", "metric"), ("events", "event")):
                self.assertEqual({item["kind"] for item in body.get(name, [])} - {kind}, set())
            return [item for name in ("logs", "metrics", "events") for item in body.get(name, [])]
        self.expect_dump(*self.run_with(read, format="object", source="edge \"7\""))

    def test_raw_records_are_as_they_were_sent(self):
        told, dumped = self.run_with(lambda request: json.loads(request.body), format="array", record="raw")
        self.assertEqual(sorted(map(json.dumps, told)), sorted(json.dumps(line["record"]) for line in dumped))


if __name__ == "__main__":
    unittest.main()
