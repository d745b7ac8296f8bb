"""Who may ask: bearer tokens, the rate limit, CORS; and what is still answered while the server stops."""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BINARY, SMALL, Server, encode, record, request_bytes, wait_until

REQUIRED = "Authorization header required. Use: Authorization: Bearer <token>"
FORMAT = "Invalid authorization format. Use: Authorization: Bearer <token>"
INVALID = "Invalid authentication token"

TOKENS = """\
# who may what
collector  s3cret-ingest  ingest
dash       s3cret-read    read        # looks only
root       s3cret-all     ingest,read,admin
"""


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def metric(server, pattern, headers=None):
    match = re.search(rf"^{pattern} ([0-9.e+]+)$", server.get("/metrics", headers).body.decode(), re.M)
    assert match, f"no metric {pattern}"
    return float(match.group(1))


class Case(unittest.TestCase):
    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="sluice-e2e-")
        self.tokens = os.path.join(self.base, "tokens")
        self.write_tokens(TOKENS)

    def tearDown(self):
        shutil.rmtree(self.base, ignore_errors=True)

    def write_tokens(self, text, mode=0o600):
        """Replaced in one step, as careful people do it."""
        temporary = self.tokens + ".new"
        with open(temporary, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(temporary, mode)
        os.rename(temporary, self.tokens)

    def server(self, *settings, **more):
        arguments = [argument for setting in settings for argument in ("--set", setting)]
        return Server(*arguments, **more)

    def guarded(self, *settings, **more):
        return self.server("auth.enabled=true", f"auth.tokens={self.tokens}", *settings, **more)

    def assert_refused(self, answer, status, detail):
        self.assertEqual((answer.status, answer.json()), (status, {"detail": detail}), answer)
        if status == 401:
            self.assertEqual(answer.headers.get("www-authenticate"), "Bearer")

    def hup(self, server, word):
        seen = len(server.log)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any(word in line for line in server.log[seen:]), 5)
        time.sleep(0.4)  # a parked shard looks around four times a second
        return "".join(server.log[seen:])


class Auth(Case):
    def test_off_by_default(self):
        with Server() as server:
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
            self.assertEqual(server.post("/v1/logs", record(1), bearer("anything")).status, 202)

    def test_the_three_texts(self):
        with self.guarded() as server:
            self.assert_refused(server.post("/v1/logs", record(1)), 401, REQUIRED)
            for value in ("Basic dXNlcjpw", "s3cret-ingest", "Bearer", "Bearer s3cret-ingest x"):
                with self.subTest(value):
                    self.assert_refused(server.post("/v1/logs", record(1), {"Authorization": value}), 401, FORMAT)
            for token in ("wrong", "s3cret-inges", "s3cret-ingest2", "S3CRET-INGEST", "x" * 300):
                with self.subTest(token):
                    self.assert_refused(server.post("/v1/logs", record(1), bearer(token)), 401, INVALID)
            self.assertEqual(server.post("/v1/logs", record(1), bearer("s3cret-ingest")).status, 202)
            self.assertEqual(server.post("/v1/logs", record(1), {"authorization": "bearer  s3cret-all"}).status, 202)
            self.assertEqual(len(server.dump()), 2)
            server.stop_clean()

    def test_scopes(self):
        with self.guarded() as server:
            for path in ("/v1/logs", "/v1/metrics", "/v1/events"):
                self.assert_refused(server.post(path, "{}", bearer("s3cret-read")), 403, "This token lacks the scope 'ingest'")
            for path in ("/v1/ledger", "/v1/durable?lsn=0"):
                self.assert_refused(server.get(path), 401, REQUIRED)
                self.assert_refused(server.get(path, bearer("s3cret-ingest")), 403, "This token lacks the scope 'read'")
                self.assertEqual(server.get(path, bearer("s3cret-read")).status, 200)
                self.assertEqual(server.get(path, bearer("s3cret-all")).status, 200)

    def test_who_watches_the_process_needs_no_token_unless_told(self):
        with self.guarded() as server:
            self.assertEqual(server.get("/healthcheck").status, 200)
            self.assertEqual(server.get("/metrics").status, 200)
            self.assertEqual(server.get("/healthcheck", bearer("wrong")).status, 200)
        with self.guarded("auth.protect_health=true") as server:
            self.assert_refused(server.get("/healthcheck"), 401, REQUIRED)
            self.assert_refused(server.get("/metrics", bearer("s3cret-ingest")), 403, "This token lacks the scope 'read'")
            self.assertEqual(server.get("/metrics", bearer("s3cret-read")).status, 200)

    def test_unknown_paths_and_methods_are_no_secret(self):
        with self.guarded() as server:
            self.assertEqual(server.get("/nothing").status, 404)
            self.assertEqual(server.request("PUT", "/v1/logs", b"{}").status, 405)

    def test_refused_before_the_body(self):
        with self.guarded() as server, server.connect() as connection:
            head = request_bytes("POST", "/v1/logs", headers={"Expect": "100-continue", "Content-Length": "1000000"}, length=False)
            connection.send(head)
            answer = connection.response()
            self.assert_refused(answer, 401, REQUIRED)
            self.assertEqual(answer.headers.get("connection"), "close")

    def test_a_pipelined_request_without_a_token_is_refused_in_its_turn_and_counted_once(self):
        good = request_bytes("POST", "/v1/logs", encode(record(1)), bearer("s3cret-ingest"))
        bad = request_bytes("POST", "/v1/logs", encode(record(2)))
        with self.guarded() as server, server.connect() as connection:
            connection.send(good * 3 + bad + good + bad)
            self.assertEqual([connection.response().status for _ in range(6)], [202, 202, 202, 401, 202, 401])
            self.assertEqual(len(server.dump()), 4)
            requests = server.get("/v1/ledger", bearer("s3cret-read")).json()["requests"]
            self.assertEqual((requests["received"], requests["accepted"]), (6, 4))
            self.assertEqual(requests["refused"], {"unauthorized": 2, "forbidden": 0, "rate_limited": 0})
            self.assertEqual(metric(server, r'sluice_ingest_requests_refused_total\{cause="unauthorized"\}'), 2)
            server.stop_clean()

    def test_a_token_file_that_will_not_do_is_named_before_data_is_touched(self):
        cases = [
            ("name t0ken ingest\n", 0o644, "chmod 0600"),
            ("# nobody\n", 0o600, "nobody could get in"),
            ("name t0ken ingest\nname\nname other write\n", 0o600, ":2: expected NAME TOKEN SCOPE"),
            ("name t0ken ingest\nname\nname other write\n", 0o600, ":3: a scope is ingest, read or admin"),
            ("a t0ken ingest\nb t0ken read\n", 0o600, ":2: this token is listed already"),
        ]
        data = os.path.join(self.base, "data")
        for text, mode, expected in cases:
            with self.subTest(expected):
                self.write_tokens(text, mode)
                result = subprocess.run([BINARY, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", *SMALL, "--set", "auth.enabled=true",
                                         "--set", f"auth.tokens={self.tokens}"], capture_output=True, text=True, timeout=30,
                                        env={name: value for name, value in os.environ.items() if name != "SLUICE_BINARY"})
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn(expected, result.stderr)
                self.assertIn(self.tokens, result.stderr)
                self.assertNotIn("t0ken ", result.stderr)
                self.assertFalse(os.path.exists(data))

    def test_sighup_changes_all_tokens_or_none(self):
        with self.guarded() as server, server.connect() as connection:
            def status(token):
                connection.send(request_bytes("POST", "/v1/logs", encode(record(1)), bearer(token)))
                return connection.response().status
            self.assertEqual(status("s3cret-ingest"), 202)
            self.write_tokens("collector n3w ingest\n")
            self.hup(server, "reloaded")
            self.assertEqual((status("s3cret-ingest"), status("n3w")), (401, 202))
            for text, mode in (("collector newest ingest\noops\n", 0o600), ("collector newest ingest\n", 0o640), ("", 0o600)):
                self.write_tokens(text, mode)
                self.assertIn("nothing was changed", self.hup(server, "reload_refused"))
                self.assertEqual((status("newest"), status("n3w")), (401, 202))
            server.stop_clean()

    def test_auth_can_be_switched_while_running(self):
        path = os.path.join(self.base, "sluice.conf")

        def write(enabled):
            with open(path, "w", encoding="utf-8") as out:
                out.write(f"[auth]\nenabled = {enabled}\ntokens = {self.tokens}\n")
        write("false")
        with Server("--config", path) as server:
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
            write("true")
            self.assertIn("3 bearer tokens", self.hup(server, "bearer token"))
            self.assertEqual(server.post("/v1/logs", record(1)).status, 401)
            write("false")
            self.hup(server, "reloaded")
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)

    def test_the_token_of_the_environment(self):
        environment = {"TELEMETRY_API_AUTH_ENABLED": "true", "TELEMETRY_API_AUTH_TOKEN": "fr0m-the-environment"}
        with Server(environment=environment) as server:
            self.assert_refused(server.post("/v1/logs", record(1)), 401, REQUIRED)
            self.assertEqual(server.post("/v1/logs", record(1), bearer("fr0m-the-environment")).status, 202)
            self.assertEqual(server.get("/v1/ledger", bearer("fr0m-the-environment")).status, 200)
            self.hup(server, "reloaded")
            self.assertEqual(server.post("/v1/logs", record(1), bearer("fr0m-the-environment")).status, 202)
            self.assertNotIn("fr0m", server.log_text())


class RateLimit(Case):
    def test_off_by_default(self):
        with Server() as server, server.connect() as connection:
            connection.send(request_bytes("POST", "/v1/logs", encode(record(1))) * 200)
            self.assertEqual({connection.response().status for _ in range(200)}, {202})

    def test_the_default_is_60_a_minute(self):
        with self.server("rate_limit.enabled=true") as server, server.connect() as connection:
            connection.send(request_bytes("POST", "/v1/logs", encode(record(1))) * 70)
            answers = [connection.response() for _ in range(70)]
            self.assertEqual([answer.status for answer in answers], [202] * 60 + [429] * 10)
            last = answers[-1]
            self.assertEqual(last.json(), {"detail": "Rate limit exceeded. Max 60 requests per minute."})
            self.assertEqual((last.headers["x-ratelimit-limit"], last.headers["x-ratelimit-remaining"]), ("60", "0"))
            self.assertTrue(1 <= int(last.headers["retry-after"]) <= 60)
            self.assertEqual(len(server.dump()), 60)
            self.assertEqual(metric(server, r'sluice_ingest_requests_refused_total\{cause="rate_limited"\}'), 10)
            server.stop_clean()

    def test_health_and_metrics_are_not_limited(self):
        with self.server("rate_limit.enabled=true", "rate_limit.rpm=1") as server:
            self.assertEqual([server.get("/healthcheck").status for _ in range(5)], [200] * 5)
            self.assertEqual(server.get("/v1/ledger").status, 200)
            self.assertEqual(server.get("/v1/ledger").status, 429)
            self.assertEqual(server.get("/metrics").status, 200)

    def test_one_limit_for_all_connections_and_shards(self):
        with self.server("rate_limit.enabled=true", "rate_limit.rpm=50", "server.shards=3") as server:
            statuses = []

            def client():
                for _ in range(20):
                    statuses.append(server.post("/v1/logs", record(1)).status)
            threads = [threading.Thread(target=client) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual((statuses.count(202), statuses.count(429)), (50, 70))
            server.stop_clean()

    def test_addresses_do_not_share(self):
        with self.server("rate_limit.enabled=true", "rate_limit.rpm=3") as server:
            self.assertEqual([server.post("/v1/logs", record(1)).status for _ in range(4)], [202, 202, 202, 429])
            other = socket.create_connection(("127.0.0.1", server.port), 10, source_address=("127.0.0.2", 0))
            other.sendall(request_bytes("POST", "/v1/logs", encode(record(1))))
            self.assertTrue(other.recv(100).startswith(b"HTTP/1.1 202"))
            other.close()

    def test_guessing_tokens_uses_up_the_limit(self):
        with self.guarded("rate_limit.enabled=true", "rate_limit.rpm=5") as server, server.connect() as connection:
            good = request_bytes("POST", "/v1/logs", encode(record(1)), bearer("s3cret-ingest"))
            bad = request_bytes("POST", "/v1/logs", encode(record(1)), bearer("guess"))
            connection.send(good + bad * 6 + good)
            self.assertEqual([connection.response().status for _ in range(8)], [202, 401, 401, 401, 401, 429, 429, 429])
            server.stop_clean()

    def test_a_refusal_comes_before_the_body(self):
        with self.server("rate_limit.enabled=true", "rate_limit.rpm=1") as server, server.connect() as connection:
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
            connection.send(request_bytes("POST", "/v1/logs", headers={"Expect": "100-continue", "Content-Length": "10000"}, length=False))
            self.assertEqual(connection.response().status, 429)

    def test_the_window_slides(self):
        """The only test that waits for it: one request, a minute, and one more."""
        if not os.environ.get("SLUICE_TEST_SLOW"):
            self.skipTest("takes 61 s: SLUICE_TEST_SLOW=1 runs it; test_rate_limit checks it without waiting")
        with self.server("rate_limit.enabled=true", "rate_limit.rpm=1") as server:
            start = time.monotonic()
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
            wait = int(server.post("/v1/logs", record(1)).headers["retry-after"])
            time.sleep(max(0.0, start + wait + 0.05 - time.monotonic()))
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)


class Cors(Case):
    A = {"Origin": "https://a.example"}

    def too_large(self, server):
        with server.connect() as connection:
            connection.send(request_bytes("POST", "/v1/logs", headers={**self.A, "Content-Length": "9999999"}, length=False))
            return connection.response()

    def test_every_origin_by_default_on_every_kind_of_answer(self):
        with self.server("server.max_body=1M") as server:
            answers = [
                server.post("/v1/logs", record(1), self.A),
                server.post("/v1/logs", [record(1), {}], self.A),
                server.post("/v1/logs", record(1), {**self.A, "X-Sluice-Ack": "memory"}),
                server.post("/v1/logs", record(1), {**self.A, "Idempotency-Key": "k"}),
                server.post("/v1/logs", record(1), {**self.A, "Idempotency-Key": "k"}),
                server.post("/v1/logs", "{}", self.A),
                server.get("/healthcheck", self.A),
                server.get("/v1/durable?lsn=1", self.A),
                server.get("/v1/durable?lsn=999&wait=50ms", self.A),
                server.get("/nothing", self.A),
                server.get("/v1/logs", self.A),
                server.get("/v1/logs?limit=0", self.A),
                server.get("/v1/tail", self.A),
                server.request("PUT", "/v1/logs", b"{}", self.A),
                self.too_large(server),
                server.request("POST", "/v1/logs", b"x", headers={**self.A, "Content-Encoding": "br"}),
            ]
            self.assertEqual([answer.status for answer in answers],
                             [202, 202, 202, 202, 202, 422, 200, 200, 200, 404, 200, 422, 426, 405, 413, 415])
            for answer in answers:
                self.assertEqual(answer.headers.get("access-control-allow-origin"), "*", answer)
                self.assertIn("X-Sluice-Ack", answer.headers.get("access-control-expose-headers", ""))
            for answer in (server.post("/v1/logs", record(1)), server.get("/healthcheck")):
                self.assertNotIn("access-control-allow-origin", answer.headers)
            server.stop_clean()

    def test_a_list_names_who_asks(self):
        with self.server("cors.origins=https://a.example, http://b.example:8080") as server:
            for origin in ("https://a.example", "http://b.example:8080"):
                answer = server.post("/v1/logs", record(1), {"Origin": origin})
                self.assertEqual((answer.status, answer.headers.get("access-control-allow-origin"), answer.headers.get("vary")),
                                 (202, origin, "Origin"))
            answer = server.post("/v1/logs", record(1), {"Origin": "https://evil.example"})
            self.assertEqual((answer.status, answer.headers.get("vary")), (202, "Origin"))
            self.assertNotIn("access-control-allow-origin", answer.headers)

    def test_pipelined_requests_of_several_origins_get_their_own(self):
        origins = ["https://a.example", None, "http://b.example:8080", "https://a.example", "https://evil.example", None] * 5
        with self.server("cors.origins=https://a.example,http://b.example:8080") as server, server.connect() as connection:
            connection.send(b"".join(request_bytes("POST", "/v1/logs", encode(record(1)), {"Origin": origin} if origin else {})
                                     for origin in origins))
            for origin in origins:
                answer = connection.response()
                self.assertEqual(answer.status, 202)
                expected = None if origin == "https://evil.example" else origin
                self.assertEqual(answer.headers.get("access-control-allow-origin"), expected)
            server.stop_clean()

    def test_preflight(self):
        asked = {**self.A, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-mine"}
        with self.guarded("rate_limit.enabled=true", "rate_limit.rpm=1") as server, server.connect() as connection:
            for _ in range(3):
                connection.send(request_bytes("OPTIONS", "/v1/logs", headers=asked))
                answer = connection.response()
                self.assertEqual((answer.status, answer.body), (204, b""))
                self.assertEqual(answer.headers["access-control-allow-origin"], "*")
                self.assertIn("POST", answer.headers["access-control-allow-methods"])
                self.assertEqual(answer.headers["access-control-allow-headers"], "content-type,x-mine")
                self.assertGreater(int(answer.headers["access-control-max-age"]), 0)
                self.assertNotIn("content-length", answer.headers)
            refused = server.post("/v1/logs", record(1), self.A)
            self.assertEqual((refused.status, refused.headers.get("access-control-allow-origin")), (401, "*"), "a page may read why")

    def test_options_without_cors(self):
        with self.server("cors.origins=") as server:
            for headers in ({}, self.A, {**self.A, "Access-Control-Request-Method": "POST"}):
                answer = server.request("OPTIONS", "/v1/logs", headers=headers)
                self.assertEqual((answer.status, answer.headers.get("allow")), (204, "GET, HEAD, POST, OPTIONS"))
                self.assertFalse([name for name in answer.headers if name.startswith("access-control")], answer)
            self.assertEqual(server.request("OPTIONS", "/nothing").status, 404)
            self.assertEqual(server.request("OPTIONS", "*").status, 204)
            self.assertNotIn("access-control-allow-origin", server.post("/v1/logs", record(1), self.A).headers)

    def test_origins_change_with_a_reload_and_bad_ones_do_not_start(self):
        path = os.path.join(self.base, "sluice.conf")

        def write(origins):
            with open(path, "w", encoding="utf-8") as out:
                out.write(f"[cors]\norigins = {origins}\n")
        write("https://a.example")
        with Server("--config", path) as server, server.connect() as connection:
            def allowed(origin):
                connection.send(request_bytes("POST", "/v1/logs", encode(record(1)), {"Origin": origin}))
                return connection.response().headers.get("access-control-allow-origin")
            self.assertEqual((allowed("https://a.example"), allowed("https://c.example")), ("https://a.example", None))
            write("https://c.example")
            self.hup(server, "reloaded")
            self.assertEqual((allowed("https://a.example"), allowed("https://c.example")), (None, "https://c.example"))
            write("https://d.example/path")
            self.assertIn("is no origin", self.hup(server, "reload_refused"))
            self.assertEqual(allowed("https://c.example"), "https://c.example")


class Stopping(Case):
    def stopped_clean(self, server):
        server.process.wait(40)
        server.stop_clean()

    def test_a_head_that_ends_after_the_stop_began_is_refused_and_one_before_is_served(self):
        with Server() as server, server.connect() as early, server.connect() as late, server.connect() as look:
            wire = request_bytes("POST", "/v1/logs", encode(record(1)))
            early.send(wire[:-20])
            late.send(wire[:20])
            health = request_bytes("GET", "/healthcheck")
            look.send(health[:-2])
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "stopping" in server.log_text())
            time.sleep(0.3)
            late.send(wire[20:])
            answer = late.response()
            self.assert_refused(answer, 503, "The server is stopping")
            self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
            self.assertEqual(answer.headers.get("connection"), "close")
            look.send(health[-2:])
            answer = look.response()
            self.assertEqual((answer.status, answer.json()["reason"]), (503, "the server is stopping"))
            early.send(wire[-20:])
            self.assertEqual(early.response().status, 202)
            self.stopped_clean(server)
            self.assertEqual(len(server.dump()), 1)

    def test_metrics_are_answered_while_other_shards_have_gone(self):
        """Three shards, of which two have closed when the third is asked: what they counted is still there."""
        with self.server("server.shards=3") as server:
            held = [server.connect() for _ in range(12)]
            scrape = request_bytes("GET", "/metrics")
            for connection in held:
                connection.send(scrape[:-2])
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            for connection in held:
                connection.send(scrape[-2:])
                text = connection.response().body.decode()
                self.assertEqual(len(re.findall(r"^sluice_http_connections_accepted_total\{shard=", text, re.M)), 3)
                accepted = sum(int(n) for n in re.findall(r"^sluice_http_connections_accepted_total\S* (\d+)", text, re.M))
                self.assertEqual(accepted, 12)
                connection.close()
                time.sleep(0.05)
            self.stopped_clean(server)

    def test_parsing_is_timed(self):
        with Server() as server, server.connect() as connection:
            connection.send(request_bytes("POST", "/v1/logs", encode(record(1))) * 33)
            self.assertEqual({connection.response().status for _ in range(33)}, {202})
            self.assertEqual(metric(server, r'sluice_parse_seconds_count\{shard="0"\}'), 3)
            server.stop_clean()


if __name__ == "__main__":
    unittest.main()
