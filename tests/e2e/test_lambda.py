#!/usr/bin/env python3
"""`sluice lambda` against a local Runtime API and servers that speak as OpenSearch and Timestream do (AWS itself cannot be
had here; signatures are checked by the published algorithm). Standard library only."""
import base64
import gzip
import hashlib
import hmac
import http.server
import json
import os
import queue
import random
import re
import subprocess
import threading
import unittest

import harness

SEED = int(os.environ.get("SEED", "20261121"))  # SEED=n repeats a run
KEY_ID, SECRET, TOKEN, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+1", "eu-west-1"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status, body=b"", headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class RuntimeApi:
    """Hands out events, takes responses. ask(event) is one invocation."""

    def __init__(self):
        self.events, self.responses = queue.Queue(), queue.Queue()
        self.init_errors, self.errors, self.count = [], [], 0
        outer = self

        class Api(Handler):
            def do_GET(self):
                assert self.path == "/2018-06-01/runtime/invocation/next", self.path
                event = outer.events.get()
                if event is None:
                    return self.answer(410)
                outer.count += 1
                self.answer(200, event, {"Lambda-Runtime-Aws-Request-Id": f"id-{outer.count}",
                                         "Lambda-Runtime-Deadline-Ms": "0"})

            def do_POST(self):
                body = json.loads(self.body())
                if self.path == "/2018-06-01/runtime/init/error":
                    outer.init_errors.append((self.headers.get("Lambda-Runtime-Function-Error-Type"), body))
                elif self.path == f"/2018-06-01/runtime/invocation/id-{outer.count}/response":
                    outer.responses.put(body)
                else:
                    outer.errors.append((self.path, body))
                self.answer(202, {"status": "OK"})

        self.server = serve(Api)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def ask(self, event):
        self.events.put(event if isinstance(event, bytes) else json.dumps(event).encode())
        response = self.responses.get(timeout=30)
        assert isinstance(response["body"], str) and response["isBase64Encoded"] is False, response
        return response["statusCode"], json.loads(response["body"]), response["headers"]


def signed_as(handler, body, service):
    """True when the request carries the signature that AWS would compute (Signature Version 4, documentation)."""
    match = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^,]+), *SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})",
                         handler.headers.get("Authorization", ""))
    if not match:
        return False
    credential, names, signature = match.groups()
    key_id, day, region, named, end = credential.split("/")
    path, _, query = handler.path.partition("?")
    canonical = "\n".join([handler.command, path, query]
                          + [f"{name}:{' '.join(handler.headers[name].split())}" for name in names.split(";")]
                          + ["", names, hashlib.sha256(body).hexdigest()])
    text = "\n".join(["AWS4-HMAC-SHA256", handler.headers["x-amz-date"], "/".join([day, region, named, end]),
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, named, end):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    # The query as a canonical one: every byte but the unreserved ones is escaped.
    is_canonical = re.fullmatch(r"(?:[A-Za-z0-9\-._~=&]|%[0-9A-F]{2})*", query) is not None
    return (is_canonical and key_id == KEY_ID and region == REGION and named == service and end == "aws4_request"
            and "host" in names.split(";") and "x-amz-security-token" in names.split(";")
            and hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), signature))


class OpenSearch:
    """_bulk with op create: documents by index and id, 409 for what is there."""

    def __init__(self):
        self.documents, self.requests, self.script, self.unsigned = {}, 0, [], 0
        outer = self

        class Api(Handler):
            def do_POST(self):
                body = self.body()
                outer.requests += 1
                if not signed_as(self, body, "es"):
                    outer.unsigned += 1
                if not self.path.startswith("/_bulk"):
                    return self.answer(404)
                fault = outer.script.pop(0) if outer.script else None
                if fault and fault[0] == "status":
                    return self.answer(fault[1], fault[2], fault[3])
                lines = body.decode().split("\n")
                assert lines.pop() == "" and len(lines) % 2 == 0
                items = [outer.create(json.loads(lines[i]), json.loads(lines[i + 1]), fault)
                         for i in range(0, len(lines), 2)]
                if fault and fault[0] == "lost":  # stored, and the answer is lost
                    self.close_connection = True
                    return None
                self.answer(200, {"errors": any(item["create"]["status"] > 299 for item in items), "items": items})

        self.server = serve(Api)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def create(self, action, source, fault):
        where = (action["create"]["_index"], action["create"]["_id"])
        item = {"_index": where[0], "_id": where[1]}
        message = source.get("message", "")
        if fault and fault[0] == "item" and fault[1] in message:
            return {"create": {**item, "status": fault[2], "error": {"type": "t_" + fault[1], "reason": "r"}}}
        if "unmappable" in message:
            return {"create": {**item, "status": 400, "error": {"type": "mapper_parsing_exception", "reason": "no"}}}
        if where in self.documents:
            return {"create": {**item, "status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "there"}}}
        self.documents[where] = source
        return {"create": {**item, "status": 201, "result": "created"}}


class Timestream:
    """WriteRecords: at most 100 records, none twice in a call, versions, rejected records."""

    def __init__(self):
        self.records, self.calls, self.script, self.unsigned, self.writes = {}, [], [], 0, 0
        outer = self

        class Api(Handler):
            def do_POST(self):
                body = self.body()
                if not signed_as(self, body, "timestream"):
                    outer.unsigned += 1
                assert self.path == "/" and self.headers["Content-Type"] == "application/x-amz-json-1.0"
                assert self.headers["X-Amz-Target"] == "Timestream_20181101.WriteRecords"
                fault = outer.script.pop(0) if outer.script else None
                if fault:
                    return self.answer(fault[0], {"__type": "com.amazonaws.timestream.v20181101#" + fault[1], "message": "m"})
                self.answer(*outer.write(json.loads(body)))

        self.server = serve(Api)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def write(self, call):
        assert call["DatabaseName"] == "telemetry" and call["TableName"] == "metrics"
        self.calls.append(len(call["Records"]))
        assert 0 < len(call["Records"]) <= 100
        rejected, seen = [], set()
        for index, record in enumerate(call["Records"]):
            key = (tuple(sorted((d["Name"], d["Value"]) for d in record["Dimensions"])), record["MeasureName"], record["Time"])
            assert key not in seen and record["MeasureValueType"] == "DOUBLE" and record["TimeUnit"] == "NANOSECONDS"
            assert all(d["Value"] for d in record["Dimensions"])
            seen.add(key)
            old = self.records.get(key)
            if record["MeasureName"] == "too.old":
                rejected.append({"RecordIndex": index, "Reason": "outside the memory store"})
            elif old and old[0] >= record["Version"] and old[1] != record["MeasureValue"]:
                rejected.append({"RecordIndex": index, "Reason": "version", "ExistingVersion": old[0]})
            elif old is None or old[0] < record["Version"]:
                self.records[key] = (record["Version"], record["MeasureValue"])
                self.writes += 1
        if rejected:
            return 419, {"__type": "com.amazonaws.timestream.v20181101#RejectedRecordsException",
                         "Message": "One or more records have been rejected.", "RejectedRecords": rejected}
        return 200, {"RecordsIngested": {"Total": len(call["Records"])}}


def ulid(number):
    return f"01JDAAAAAAAAAAAAAAAAAA{number:04d}"


def meta(number, kind, record):
    return {"id": ulid(number), "lsn": number, "kind": kind, "received_at": "2026-11-21T17:25:06.123456Z", "record": record}


def metric(name, value=1.5, **tags):
    return {"timestamp": "2026-11-21T17:25:06.5Z", "service": "s", "name": name, "value": value, "tags": tags}


def batch(logs=(), metrics=(), **more):
    return {"batch_id": "01JDNNNNNNNNNNNNNNNNNNNNNN-gw-1-9", "source": "host", "sent_at": "2026-11-21T17:25:07.123Z",
            "logs": list(logs), "metrics": list(metrics), **more}


def rest_event(body, **more):
    """Payload format 1.0."""
    return {"resource": "/v1/batches", "path": "/v1/batches", "httpMethod": "POST", "headers": {"Content-Type": "application/json"},
            "requestContext": {"stage": "prod"}, "body": body if isinstance(body, str) else json.dumps(body),
            "isBase64Encoded": False, **more}


def http_event(body, **more):
    """Payload format 2.0, which hands over what is no text in base64."""
    return {"version": "2.0", "routeKey": "POST /v1/batches", "rawPath": "/v1/batches",
            "headers": {"content-type": "application/json", "content-encoding": "gzip"}, "requestContext": {"http": {"method": "POST"}},
            "body": base64.b64encode(gzip.compress(json.dumps(body).encode())).decode(), "isBase64Encoded": True, **more}


class Function:
    def __init__(self, **environment):
        self.runtime, self.opensearch, self.timestream = RuntimeApi(), OpenSearch(), Timestream()
        self.environment = {
            "PATH": os.environ.get("PATH", ""), "AWS_LAMBDA_RUNTIME_API": self.runtime.address, "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN,
            "OPENSEARCH_URL": self.opensearch.url, "OPENSEARCH_INDEX": "t-{kind}-%Y.%m.%d",
            "TIMESTREAM_URL": self.timestream.url, "TIMESTREAM_DB": "telemetry", "TIMESTREAM_TABLE": "metrics",
        }
        self.environment.update(environment)
        self.environment = {name: value for name, value in self.environment.items() if value is not None}

    def __enter__(self):
        self.process = subprocess.Popen([harness.BINARY, "lambda"], env=self.environment, stderr=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        self.runtime.events.put(None)  # the Runtime API is gone
        try:
            _, errors = self.process.communicate(timeout=20)
        finally:
            self.process.kill()
        for server in (self.runtime, self.opensearch, self.timestream):
            server.server.shutdown()
            server.server.server_close()
        assert b"Sanitizer" not in errors and b"ASSERT" not in errors, errors.decode()
        assert self.process.returncode == 1, self.process.returncode

    def ask(self, event):
        return self.runtime.ask(event)


class Gateway:
    """An HTTP API in front of a function: requests to events (payload format 2.0), responses back. One at a time."""

    def __init__(self, function):
        lock = threading.Lock()

        class Api(Handler):
            def do_POST(self):
                body = self.body()
                event = {"version": "2.0", "rawPath": self.path, "isBase64Encoded": True, "body": base64.b64encode(body).decode(),
                         "headers": {name.lower(): value for name, value in self.headers.items()}}
                with lock:
                    status, answer, headers = function.ask(event)
                self.answer(status, answer, headers)

        self.server = serve(Api)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/prod/telemetry"


class Chain(unittest.TestCase):
    """Server, http sink, gateway, function, upstreams: the whole way of the documents."""

    def chain(self, form):
        with Function() as function:
            gateway = Gateway(function)
            self.addCleanup(gateway.server.server_close)
            self.addCleanup(gateway.server.shutdown)
            function.opensearch.script += [("status", 503, b"down", {}), ("lost",), None, ("item", "record 7", 429)]
            function.timestream.script += [(400, "ThrottlingException"), None, (500, "InternalServerException")]
            settings = ["type=http", f"url={gateway.url}", f"format={form}", "compression=gzip", "kinds=log,metric",
                        "backoff_min=20ms", "backoff_max=100ms"]
            arguments = [word for setting in settings for word in ("--set", "sink.gw." + setting)]
            with harness.Server(*arguments) as server:
                logs = [harness.record(i) for i in range(200)] + [harness.record(200, message="unmappable")]
                metrics = [metric("m", i, n=str(i)) for i in range(60)] + [metric("too.old")]
                for at in range(0, 201, 40):
                    self.assertEqual(server.post("/v1/logs", logs[at:at + 40]).status, 202)
                    self.assertEqual(server.post("/v1/metrics", metrics[at // 40 * 11:at // 40 * 11 + 11]).status, 202)
                server.kill9()
                server.start()
                harness.wait_until(lambda: len(function.opensearch.documents) >= 200, 60, 0.1)
                ids = {line["id"] for line in server.dump("--kind", "log")}
                harness.wait_until(lambda: len(function.timestream.records) >= 60, 30, 0.1)
                refused = harness.wait_until(lambda: (q := server.get("/v1/quarantine").json()["data"]) and len(q) >= 2 and q, 30, 0.1)
                server.stop_clean()
            self.assertEqual(len(function.opensearch.documents), 200)
            self.assertEqual(len({where[1] for where in function.opensearch.documents} & ids), 200)
            self.assertEqual((len(function.timestream.records), function.timestream.writes), (60, 60))
            self.assertEqual(len(refused), 2, refused)
            for words in ("mapper_parsing_exception", "memory store"):
                self.assertIn(words, json.dumps(refused))

    def test_each_record_is_upstream_once_whatever_failed_on_the_way_in_format_object(self):
        self.chain("object")

    def test_each_record_is_upstream_once_whatever_failed_on_the_way_in_format_ndjson(self):
        self.chain("ndjson")


class Lambda(unittest.TestCase):
    def test_logs_and_metrics_are_stored_under_their_own_ids_and_versions(self):
        with Function() as function:
            body = batch([meta(1, "log", harness.record(1))], [meta(2, "metric", metric("rt", 9007199254740993, host="a"))])
            status, answer, _ = function.ask(rest_event(body))
            self.assertEqual((status, answer), (200, {"status": "stored", "batch_id": body["batch_id"], "opensearch": 1, "timestream": 1}))
            (where, document), = function.opensearch.documents.items()
            self.assertEqual(where, ("t-log-2025.08.25", ulid(1)))
            self.assertEqual(document["message"], "record 1")
            (key, stored), = function.timestream.records.items()
            self.assertEqual(stored, (2, "9007199254740993"))
            self.assertEqual(dict(key[0]), {"service": "s", "host": "a", "sluice_node": "01JDNNNNNNNNNNNNNNNNNNNNNN"})
            self.assertEqual((function.opensearch.unsigned, function.timestream.unsigned), (0, 0))

    def test_a_repeated_event_writes_nothing_twice_in_every_form(self):
        logs, metrics = [harness.record(i) for i in range(20)], [metric("m", i, n=str(i)) for i in range(20)]
        raw, lines = batch(logs, metrics), "\n".join(json.dumps(r) for r in logs + metrics) + "\n"
        forms = [rest_event(raw), http_event(raw), rest_event(lines, headers={"Idempotency-Key": "k-1"}),
                 rest_event(json.dumps(logs + metrics, indent=1), headers={"idempotency-key": "k-2"}), rest_event(lines),
                 raw, rest_event(batch([meta(i, "log", r) for i, r in enumerate(logs)], [meta(20 + i, "metric", r) for i, r in enumerate(metrics)]))]
        for event in forms:
            with Function() as function:
                for _ in range(3):
                    status, answer, _ = function.ask(event)
                    self.assertEqual((status, answer["opensearch"], answer["timestream"]), (200, 20, 20), answer)
                self.assertEqual(len(function.opensearch.documents), 20)
                self.assertEqual(sorted(d["message"] for d in function.opensearch.documents.values()), sorted(r["message"] for r in logs))
                self.assertEqual((len(function.timestream.records), function.timestream.writes), (20, 20))

    def test_trouble_of_an_upstream_is_a_503_and_the_repeat_completes_it(self):
        logs, metrics = [meta(i, "log", harness.record(i)) for i in range(5)], [meta(9, "metric", metric("m"))]
        event = rest_event(batch(logs, metrics))
        script = [("opensearch", ("status", 429, b"{}", {"Retry-After": "7"}), "7"),
                  ("opensearch", ("status", 503, b"down", {}), "1"), ("opensearch", ("status", 403, b"no", {}), "1"),
                  ("opensearch", ("item", "record 3", 429), "1"), ("opensearch", ("lost",), "1"),
                  ("timestream", (400, "ThrottlingException"), "1"), ("timestream", (500, "InternalServerException"), "1"),
                  ("timestream", (400, "AccessDeniedException"), "1")]
        for name, fault, retry_after in script:
            with self.subTest(fault=fault), Function() as function:
                getattr(function, name).script.append(fault)
                status, answer, headers = function.ask(event)
                self.assertEqual((status, headers.get("Retry-After")), (503, retry_after), answer)
                self.assertTrue(answer["detail"].startswith(name + ": "), answer)
                status, answer, _ = function.ask(event)
                self.assertEqual(status, 200, answer)
                self.assertEqual((len(function.opensearch.documents), function.timestream.writes), (5, 1))

    def test_an_upstream_that_is_away_is_a_503(self):
        with Function() as function:
            function.timestream.server.shutdown()
            function.timestream.server.server_close()
            status, answer, _ = function.ask(rest_event(batch([], [meta(1, "metric", metric("m"))])))
            self.assertEqual(status, 503, answer)
            self.assertTrue(answer["detail"].startswith("timestream: "), answer)

    def test_poison_is_named_with_its_place_and_nothing_of_the_batch_is_stored(self):
        good = meta(1, "log", harness.record(1))
        cases = [(batch([good, {"no": "log"}]), "logs", 1, "missing"),
                 (batch([good, meta(2, "log", {**harness.record(2), "level": "LOUD"})]), "logs", 1, "enum"),
                 (batch([good], [metric("ok"), {**metric("m"), "value": "1"}]), "metrics", 1, "float_type"),
                 (batch([good], [metric("m" * 300)]), "metrics", 0, "Timestream takes 256"),
                 (batch([good, 7]), "logs", 1, "object")]
        for body, where, index, text in cases:
            with self.subTest(text=text), Function() as function:
                status, answer, _ = function.ask(rest_event(body))
                self.assertEqual((status, answer["refused"]), (400, 1), answer)
                error, = answer["errors"]
                self.assertEqual((error["list"], error["index"]), (where, index))
                self.assertIn(text, error["error"])
                self.assertEqual((function.opensearch.requests, function.timestream.calls), (0, []))

    def test_what_an_upstream_refuses_is_named_and_the_rest_is_stored(self):
        with Function() as function:
            logs = [meta(i, "log", harness.record(i)) for i in range(3)] + [meta(3, "log", harness.record(3, message="unmappable"))]
            status, answer, _ = function.ask(rest_event(batch(logs, [meta(8, "metric", metric("too.old")), meta(9, "metric", metric("m"))])))
            self.assertEqual((status, answer["refused"]), (400, 2), answer)
            places = [(e["list"], e["index"]) for e in answer["errors"]]
            self.assertEqual(places, [("logs", 3), ("metrics", 0)])
            self.assertIn("mapper_parsing_exception", answer["errors"][0]["error"])
            self.assertIn("memory store", answer["errors"][1]["error"])
            self.assertEqual((len(function.opensearch.documents), function.timestream.writes), (3, 1))
            # What its client does then: without them, the rest again, under their own ids.
            status, answer, _ = function.ask(rest_event(batch(logs[:3], [meta(9, "metric", metric("m"))])))
            self.assertEqual(status, 200, answer)
            self.assertEqual((len(function.opensearch.documents), function.timestream.writes), (3, 1))

    def test_many_metrics_become_calls_of_a_hundred_and_a_series_comes_once_in_each(self):
        with Function() as function:
            metrics = [meta(i, "metric", metric("m", i, n=str(i))) for i in range(1, 251)]
            metrics += [meta(300 + i, "metric", metric("same", i)) for i in range(3)]
            status, answer, _ = function.ask(http_event(batch([], metrics)))
            self.assertEqual((status, answer["timestream"]), (200, 253), answer)
            self.assertEqual(function.timestream.calls, [100, 100, 51, 1, 1])
            same, = [v for k, v in function.timestream.records.items() if k[1] == "same"]
            self.assertEqual(same, (302, "2"))

    def test_without_timestream_metrics_go_to_opensearch(self):
        with Function(TIMESTREAM_URL=None) as function:
            status, answer, _ = function.ask(rest_event(batch([], [meta(1, "metric", metric("m"))])))
            self.assertEqual((status, answer["opensearch"]), (200, 1), answer)
            self.assertEqual(list(function.opensearch.documents), [("t-metric-2026.11.21", ulid(1))])

    def test_without_credentials_nothing_is_signed(self):
        with Function(AWS_ACCESS_KEY_ID=None) as function:
            status, _, _ = function.ask(rest_event(batch([meta(1, "log", harness.record(1))])))
            self.assertEqual((status, function.opensearch.unsigned), (200, 1))

    def test_events_that_are_none_are_answered_and_the_loop_goes_on(self):
        cases = [(b"not json", 400), (b"[]", 400), (b"{}", 400), (rest_event("", isBase64Encoded=False), 400),
                 (rest_event("{"), 400), (rest_event("[1,"), 400), (rest_event("!!!!", isBase64Encoded=True), 400),
                 (rest_event("AAA", isBase64Encoded=True), 400),
                 (rest_event("x", headers={"Content-Encoding": "br"}), 415), (rest_event("x", headers={"Content-Encoding": "gzip"}), 400),
                 (rest_event(base64.b64encode(gzip.compress(b"[" * 50000)).decode(), isBase64Encoded=True, headers={"content-encoding": "gzip"}), 400)]
        with Function() as function:
            for event, expected in cases:
                status, answer, _ = function.ask(event)
                self.assertEqual(status, expected, (event, answer))
                self.assertTrue(answer["detail"])
            status, _, _ = function.ask(rest_event(batch([meta(1, "log", harness.record(1))])))
            self.assertEqual(status, 200)
            self.assertEqual(function.runtime.errors, [])

    def test_the_runtime_api_is_never_asked_through_a_proxy(self):
        with Function(http_proxy="http://127.0.0.1:9") as function:  # which is not there
            status, answer, _ = function.ask(rest_event(batch([meta(1, "log", harness.record(1))])))
            self.assertEqual(status, 503, answer)

    def test_a_large_event_is_stored_and_its_signature_holds(self):
        logs = [meta(i, "log", harness.record(i, message="x" * 4000 + str(i))) for i in range(1200)]
        with Function() as function:
            status, answer, _ = function.ask(http_event(batch(logs)))
            self.assertEqual((status, answer["opensearch"]), (200, 1200), answer)
            self.assertEqual((len(function.opensearch.documents), function.opensearch.unsigned), (1200, 0))
            self.assertEqual(function.opensearch.requests, 2)

    def test_damaged_events_are_answered_whatever_they_are(self):
        source = random.Random(SEED)
        whole = [json.dumps(event).encode() for event in (
            rest_event(batch([meta(1, "log", harness.record(1)), harness.record(2)], [metric("m", host="a")])),
            http_event(batch([harness.record(1)])), rest_event("\n".join(json.dumps(harness.record(i)) for i in range(3))))]
        with Function() as function:
            for number in range(300):
                event = bytearray(source.choice(whole))
                for _ in range(source.randrange(1, 4)):
                    at = source.randrange(len(event))
                    change = source.randrange(3)
                    if change == 0:
                        event[at] = source.choice(b'{}[]",:\\\n\x00\xff019e-')
                    elif change == 1:
                        del event[at:at + source.randrange(1, 20)]
                    else:
                        event[at:at] = event[at:at + source.randrange(1, 40)]
                    if not event:
                        event = bytearray(b"x")
                status, _, _ = function.ask(bytes(event))
                self.assertIn(status, (200, 400, 415, 503), (SEED, number, bytes(event)))
            self.assertEqual(function.runtime.errors, [])

    def test_an_empty_batch_is_stored(self):
        with Function() as function:
            self.assertEqual(function.ask(rest_event(batch()))[0], 200)
            self.assertEqual(function.opensearch.requests, 0)

    def test_an_incomplete_environment_is_told_to_the_runtime_api(self):
        cases = [({"OPENSEARCH_URL": None}, "OPENSEARCH_URL"), ({"TIMESTREAM_DB": None}, "TIMESTREAM_DB"),
                 ({"AWS_REGION": None}, "AWS_REGION"), ({"OPENSEARCH_INDEX": "Bad Index"}, "index"),
                 ({"TIMESTREAM_URL": "ftp://x"}, "TIMESTREAM_URL")]
        for change, text in cases:
            with self.subTest(text=text), Function(**change) as function:
                function.process.wait(20)
                (kind, body), = function.runtime.init_errors
                self.assertEqual((kind, body["errorType"]), ("Runtime.ConfigurationError",) * 2)
                self.assertIn(text, body["errorMessage"])

    def test_outside_of_lambda_it_says_so(self):
        result = subprocess.run([harness.BINARY, "lambda"], env={"PATH": ""}, capture_output=True, timeout=20)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"AWS_LAMBDA_RUNTIME_API", result.stderr)
        self.assertEqual(subprocess.run([harness.BINARY, "lambda", "x"], capture_output=True, timeout=20).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
