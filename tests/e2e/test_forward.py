"""Forwarding, against a real server process and an upstream that misbehaves by script: whatever the upstream does, every record arrives once, or its
whereabouts are known. SLUICE_TEST_KILLS sets how often the server is killed (CI: 50)."""
import datetime
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BINARY, Server, encode, record, wait_until
from upstream import (POISON, Certificates, Oracle, Upstream, bulk, cut, garbage, half_close, lost, lost_reset, ok, poison, reset, silence, slow,
                      status, switch, too_large, too_many)

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "10"))
PATIENCE = 60  # seconds: for a debug build on a busy machine

# Impatient, so that a test need not be patient.
QUICK = {"type": "http", "linger": "10ms", "backoff_min": "10ms", "backoff_max": "100ms", "pause_retry": "200ms", "connect_timeout": "2s",
         "timeout": "2s", "batch_records": "50"}


def sink(name, url, **keys):
    """The arguments of a sink; None takes a default away."""
    merged = {**QUICK, "url": url, **keys}
    return [part for key, value in merged.items() if value is not None for part in ("--set", f"sink.{name}.{key}={value}")]


def imbalance(ledger):
    """What is wrong with the sinks of a ledger, or None."""
    for name, of in ledger["sinks"].items():
        total = of["delivered"] + of["pending"] + of["quarantined"] + of.get("filtered", 0) + sum(of["expired"].values())
        if total != of["durable"] or not of["balances"]:
            return f"{name}: {of}"
    return None


def received(entry):
    """When the server received it, in seconds since 1970."""
    return datetime.datetime.fromisoformat(entry["received_at"][:26].rstrip("Z").ljust(26, "0") + "+00:00").timestamp()


class Watcher(threading.Thread):
    """Asks for the ledger all the time. A server that is down at the moment is no problem, an imbalance is."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.looks, self.problems, self.is_over = server, 0, [], threading.Event()

    def run(self):
        while not self.is_over.wait(0.02):
            try:
                problem = imbalance(self.server.ledger())
            except (OSError, AssertionError, ValueError, TypeError):
                continue
            self.looks += 1
            if problem:
                self.problems.append(problem)


class Watched(Server):
    """A server whose ledger is looked at for as long as it lives."""

    def __enter__(self):
        super().__enter__()
        self.watcher = Watcher(self)
        self.watcher.start()
        return self

    def __exit__(self, kind, *rest):
        self.watcher.is_over.set()
        self.watcher.join(15)
        super().__exit__(kind, *rest)
        if kind is None:
            assert self.watcher.problems == [], self.watcher.problems[:3]
            assert self.watcher.looks > 0, "nobody ever saw the ledger"
            doubled = [line for line in self.log if re.search(r"sink (\S+): sink \1:", line)]
            assert doubled == [], doubled[:3]

    def offer(self, count, first=0, **more):
        """count records in one request; their LSNs, or None where the server has no room for now."""
        body = b"\n".join(encode(record(first + i, **more)) for i in range(count))
        answer = self.post("/v1/logs", body, {"Content-Type": "application/x-ndjson"})
        if answer.status == 429:
            return None
        assert answer.status == 202, answer
        answer = answer.json()
        assert answer["accepted"] == count, answer
        return list(range(answer["first_lsn"], answer["last_lsn"] + 1))

    def send(self, count, first=0, **more):
        lsns = self.offer(count, first, **more)
        assert lsns is not None
        return lsns

    def sink(self, name="up"):
        return self.ledger()["sinks"][name]

    def is_drained(self, name="up"):
        of = self.sink(name)
        return of["pending"] == 0 and of["durable"] == self.ledger()["durable_lsn"] if "durable_lsn" in self.ledger() else of["pending"] == 0

    def drained(self, expected, name="up"):
        """Waits until the sink has nothing left to do and has seen everything that was acknowledged."""
        def all_done():
            of = self.sink(name)
            return of["pending"] == 0 and of["durable"] >= len(expected)
        try:
            wait_until(all_done, PATIENCE, 0.02)
        except AssertionError:
            raise AssertionError(f"not drained: {self.sink(name)}\n{self.log_text()[-3000:]}") from None


class Forward(unittest.TestCase):
    maxDiff = 2000

    def survive(self, trouble, count=300, chunks=6, tls=None, prepare=None, **keys):
        """Records are sent while the upstream plays trouble(up); in the end all of them are there, once, and unchanged."""
        with Upstream(tls=tls) as up, Watched(*sink("up", up.url(), **keys)) as server:
            up.next(*trouble)
            lsns = []
            for i in range(chunks):
                lsns += server.send(count // chunks, first=i * count)
            server.drained(lsns)
            oracle = Oracle(up).check(lsns)
            oracle.in_order()
            oracle.bytes_are_those_of(server.dump_lines())
            self.assertEqual(len(up.planned), 0, "the script was not played to its end")
            of = server.sink()
            self.assertEqual((of["delivered"], of["quarantined"], sum(of["expired"].values())), (len(lsns), 0, 0))
            server.stop_clean()
            return oracle

    # what is sent

    def test_each_format_and_compression_says_every_record_as_it_was_sent(self):
        for form in ("ndjson", "array", "object"):
            for compression in ("identity", "gzip", "zstd"):
                with self.subTest(form=form, compression=compression), Upstream() as up:
                    with Watched(*sink("up", up.url("/in?x=1"), format=form, compression=compression, headers="X-Team: blue | X-Two: 2")) as server:
                        lsns = server.send(120)
                        server.drained(lsns)
                        Oracle(up).check(lsns)
                        sent = {entry["lsn"]: entry["record"] for line in server.dump_lines() for entry in [json.loads(line)]}
                        for request in up.requests:
                            self.assertEqual((request.method, request.path), ("POST", "/in?x=1"))
                            self.assertEqual((request.headers["x-team"], request.headers["x-two"]), ("blue", "2"))
                            self.assertEqual(request.headers.get("content-encoding", "identity"), compression)
                            for entry in request.records():
                                self.assertEqual(entry["record"], sent[entry["lsn"]])
                            if form == "object":
                                whole = json.loads(request.body)
                                self.assertLessEqual({"batch_id", "source", "sent_at", "logs"}, set(whole))

    def test_raw_records_are_the_bytes_of_the_client(self):
        with Upstream() as up, Watched(*sink("up", up.url(), record="raw")) as server:
            bodies = [encode(record(i, odd="\u00e4\\n", big=12345678901234567890)) for i in range(30)]
            server.post("/v1/logs", b"\n".join(bodies), {"Content-Type": "application/x-ndjson"})
            server.drained(bodies)
            got = b"\n".join(request.body.strip() for request in sorted(up.stored, key=lambda r: r.number)).split(b"\n")
            self.assertEqual(sorted(got), sorted(bodies))

    def test_secrets_come_from_files_and_are_not_logged(self):
        with Upstream() as up:
            server = Watched()
            os.makedirs(server.base, exist_ok=True)
            for name, text in (("bearer", "s3cret-bearer"), ("apikey", "s3cret-key")):
                path = os.path.join(server.base, name)
                with open(path, "w") as out:
                    out.write(text + "\n")
                os.chmod(path, 0o600)
                server.arguments += ["--set", f"sink.up.{'bearer_file' if name == 'bearer' else 'api_key_file'}={path}"]
            server.arguments += sink("up", up.url())
            with server:
                lsns = server.send(5)
                server.drained(lsns)
                self.assertEqual(up.requests[0].headers["authorization"], "Bearer s3cret-bearer")
                self.assertEqual(up.requests[0].headers["x-api-key"], "s3cret-key")
                self.assertNotIn("s3cret", server.log_text())

    def test_kinds_that_a_sink_does_not_take_are_counted_as_filtered(self):
        with Upstream() as up, Watched(*sink("up", up.url(), kinds="event")) as server:
            lsns = server.send(20)
            event = {"event_type": "info", "source": "e2e", "message": "m", "timestamp": "2025-08-25T10:00:00Z"}
            answer = server.post("/v1/events", event).json()
            server.drained(lsns + [answer["lsn"]])
            Oracle(up).check([answer["lsn"]])
            self.assertEqual((server.sink()["filtered"], server.sink()["delivered"]), (20, 1))

    def test_a_sink_that_begins_at_the_end_leaves_the_past_alone(self):
        with Upstream() as up, Watched() as server:
            server.send(50)
            self.assertEqual(server.stop(), 0)
            server.arguments += sink("up", up.url(), **{"from": "end"})
            server.start()
            lsns = server.send(20)
            server.drained(lsns)
            Oracle(up).check(lsns)

    # passing trouble: the same bytes again, until they are taken

    def test_an_upstream_that_is_down_is_waited_for(self):
        with Upstream() as up, Watched(*sink("up", up.url(), breaker_failures=3)) as server:
            up.down()
            lsns = server.send(200)
            wait_until(lambda: server.sink()["state"] == "retrying", PATIENCE)
            self.assertEqual(server.sink()["pending"], 200)
            up.up()
            server.drained(lsns)
            Oracle(up).check(lsns)
            self.assertIn(server.sink()["state"], ("running",))

    def test_a_storm_of_503_is_sat_out(self):
        for code in (408, 425, 500, 502, 503, 504):
            with self.subTest(code=code):
                self.survive([status(code)] * 12)

    def test_retry_after_in_seconds_is_obeyed(self):
        with Upstream() as up, Watched(*sink("up", up.url(), connections=1)) as server:
            up.next(too_many(seconds=2), too_many(seconds=1, code=503))
            lsns = server.send(10)
            server.drained(lsns)
            Oracle(up).check(lsns)
            at = [request.at for request in up.requests]
            self.assertGreaterEqual(at[1] - at[0], 1.9)
            self.assertGreaterEqual(at[2] - at[1], 0.9)

    def test_retry_after_as_a_date_is_obeyed(self):
        with Upstream() as up, Watched(*sink("up", up.url(), connections=1)) as server:
            until = int(time.time()) + 3
            up.next(too_many(at=until))
            lsns = server.send(10)
            server.drained(lsns)
            Oracle(up).check(lsns)
            self.assertGreaterEqual(up.requests[1].real_at, until - 0.1)

    def test_a_retry_after_that_says_nothing_hurts_nobody(self):
        self.survive([status(429, b"", Retry_After=value) for value in ("soon", "-5", "", "Mon, 99 Foo", "1e9", "\x80\xff")])

    def test_a_storm_of_429_is_sat_out(self):
        self.survive([too_many(seconds=0)] * 20)

    def test_a_slow_answer_is_waited_for_and_one_too_slow_is_asked_again(self):
        oracle = self.survive([slow(0.5), slow(4), slow(0.2)], timeout="1s")
        self.assertGreaterEqual(len(oracle.requests), 4)

    def test_an_upstream_that_never_answers_is_asked_again(self):
        self.survive([silence()] * 3, timeout="500ms")

    def test_a_reset_is_survived(self):
        self.survive([reset()] * 8)

    def test_connections_that_are_torn_down_at_once_are_survived(self):
        with Upstream() as up, Watched(*sink("up", up.url())) as server:
            up.refuse_connections = True
            lsns = server.send(100)
            wait_until(lambda: up.connection_count >= 5, PATIENCE)
            up.refuse_connections = False
            server.drained(lsns)
            Oracle(up).check(lsns)

    def test_a_half_closed_connection_is_given_up(self):
        self.survive([half_close()] * 4)

    def test_bytes_that_are_no_http_are_survived(self):
        self.survive([garbage(), garbage(b"\0" * 4000), garbage(b"HTTP/1.1 200"), garbage(b"HTTP/9.9 999 what\r\n\r\n"), garbage(b"\r\n\r\n"),
                      garbage(b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n"), garbage(b"\x16\x03\x01\x02\x00")])

    def test_an_answer_that_says_too_much_is_survived(self):
        self.survive([status(503, b"x" * 6_000_000), ok(200, b"y" * 6_000_000), status(500, b"\0\x1b[2J\xff" * 100)])

    def test_an_answer_lost_after_storing_gives_the_same_bytes_again(self):
        oracle = self.survive([lost(), lost_reset(), cut(), cut(60), lost()])
        twice = len(oracle.stored) - len(oracle.by_key())
        self.assertGreaterEqual(twice, 1, "nothing was sent twice: the test tests nothing")

    def test_any_mixture_of_trouble_delivers_once(self):
        seed = int(os.environ.get("SLUICE_TEST_SEED", random.randrange(1 << 30)))
        print(f"SLUICE_TEST_SEED={seed}")
        rng = random.Random(seed)
        kinds = [lambda: status(503), lambda: too_many(seconds=0), reset, lost, lost_reset, cut, half_close, garbage, lambda: slow(0.1), ok, ok]
        self.survive([rng.choice(kinds)() for _ in range(60)], count=3000, chunks=20)

    # refused for good

    def items(self, server, query=""):
        answer = server.get("/v1/quarantine" + query)
        self.assertEqual(answer.status, 200, answer)
        return answer.json()["data"]

    def test_a_poison_record_alone_is_quarantined_with_the_upstreams_words(self):
        for code in (400, 422):
            with self.subTest(code=code), Upstream(poison(code=code)) as up, Watched(*sink("up", up.url())) as server:
                good = server.send(70)
                bad = server.send(1, first=1000, note=POISON.decode())
                good += server.send(70, first=2000)
                server.drained(good + bad)
                Oracle(up).check(good)
                of = server.sink()
                self.assertEqual((of["delivered"], of["quarantined"]), (140, 1))
                item, = self.items(server)
                self.assertEqual((item["lsn"], item["status"], item["sink"]), (bad[0], code, "up"))
                self.assertIn("cannot parse", item["reason"])
                self.assertNotIn("second line", item["reason"])

    def test_many_poison_records_among_good_ones_are_told_apart(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url(), batch_records=200)) as server:
            rng, good, bad = random.Random(7), [], []
            for i in range(40):
                is_bad = rng.random() < 0.3
                (bad if is_bad else good).extend(server.send(rng.randint(1, 12), first=i * 100, **({"note": POISON.decode()} if is_bad else {})))
            server.drained(good + bad)
            Oracle(up).check(good)
            self.assertEqual(sorted(item["lsn"] for item in self.items(server, "?limit=1000")), bad)

    def test_what_was_poison_is_delivered_when_it_is_requeued(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url())) as server:
            good = server.send(20)
            bad = server.send(3, first=1000, note=POISON.decode())
            server.drained(good + bad)
            first, second, third = self.items(server)
            self.assertEqual(server.post(f"/v1/quarantine/{first['id']}/requeue", b"").status // 100, 2)
            wait_until(lambda: len([r for r in up.requests if POISON in r.body]) > 5, PATIENCE)
            wait_until(lambda: self.items(server)[0].get("state") in ("held", None), PATIENCE)
            self.assertEqual(len(self.items(server)), 3, "refused again: it stays where it was")
            up.mode = ok()
            self.assertEqual(server.post(f"/v1/quarantine/{second['id']}/drop", b"").status // 100, 2)
            self.assertEqual(server.post("/v1/sinks/up/requeue", b"").status // 100, 2)
            wait_until(lambda: self.items(server) == [], PATIENCE)
            Oracle(up).once(good + [first["lsn"], third["lsn"]])
            of = server.sink()
            self.assertEqual((of["delivered"], of["quarantined"], of["expired"]["dropped"]), (22, 0, 1))

    def test_the_quarantine_survives_kill_9(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url())) as server:
            good = server.send(20)
            bad = server.send(2, first=1000, note=POISON.decode())
            server.drained(good + bad)
            server.kill9()
            server.start()
            self.assertEqual(sorted(item["lsn"] for item in self.items(server)), bad)
            Oracle(up).check(good)

    def test_the_quarantine_is_read_by_the_tool_beside_the_server_and_without_it(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url())) as server:
            good = server.send(20)
            bad = server.send(2, first=1000, note=POISON.decode())
            server.drained(good + bad)
            for is_running in (True, False):
                if not is_running:
                    self.assertEqual(server.stop(), 0)
                result = subprocess.run([BINARY, "quarantine", "list", "--data-dir", server.data_dir], capture_output=True, text=True, timeout=60)
                self.assertEqual(result.returncode, 0, result.stderr)
                for lsn in bad:
                    self.assertIn(str(lsn), result.stdout)

    def test_a_body_that_is_too_large_is_halved_until_it_fits(self):
        with Upstream(too_large(4000)) as up, Watched(*sink("up", up.url(), batch_records=200)) as server:
            lsns = server.send(200)
            server.drained(lsns)
            Oracle(up).check(lsns)
            self.assertTrue(all(len(request.body) <= 4000 for request in up.stored))
            self.assertEqual(server.sink()["quarantined"], 0)

    def test_a_sink_that_is_not_let_in_pauses_and_throws_nothing_away(self):
        for code in (401, 403, 404):
            with self.subTest(code=code), Upstream(status(code, b"who are you")) as up, Watched(*sink("up", up.url())) as server:
                lsns = server.send(120)
                wait_until(lambda: server.sink()["state"] == "paused", PATIENCE)
                lsns += server.send(120, first=1000)
                wait_until(lambda: len(up.requests) >= 3 and server.sink()["pending"] == 240, PATIENCE)
                of = server.sink()
                self.assertEqual((of["pending"], of["quarantined"], of["delivered"]), (240, 0, 0))
                paused = [line for line in server.log if "sink_paused" in line]
                self.assertEqual(len(paused), 1, "said once, not with every look")
                self.assertRegex(json.loads(paused[0])["message"], rf"\b{code}\b")
                up.mode = ok()
                server.drained(lsns)
                Oracle(up).check(lsns)
                self.assertEqual(server.sink()["state"], "running")

    # certificates

    def test_a_certificate_of_a_stranger_pauses_the_sink_and_nothing_is_said_to_it(self):
        with Certificates() as certificates:
            for name in ("stranger", "other-name"):
                with self.subTest(name=name), Upstream(tls=certificates.server_context(name)) as up:
                    with Watched(*sink("up", up.url(), ca_file=certificates.path("ca.pem"))) as server:
                        lsns = server.send(50)
                        wait_until(lambda: server.sink()["state"] == "paused", PATIENCE)
                        self.assertEqual(up.requests, [])
                        up.tls = certificates.server_context("server")
                        server.drained(lsns)
                        Oracle(up).check(lsns)

    def test_a_client_certificate_is_shown_where_it_is_demanded(self):
        with Certificates() as certificates, Upstream(tls=certificates.server_context("server", demand_client=True)) as up:
            ca = {"ca_file": certificates.path("ca.pem")}
            with Watched(*sink("up", up.url(), **ca, cert_file=certificates.path("client.pem"), key_file=certificates.path("client.key"))) as server:
                lsns = server.send(50)
                server.drained(lsns)
                Oracle(up).check(lsns)
                self.assertTrue(all(request.client_certificate for request in up.requests))
        with Certificates() as certificates, Upstream(tls=certificates.server_context("server", demand_client=True)) as up:
            with Watched(*sink("up", up.url(), ca_file=certificates.path("ca.pem"))) as server:
                server.send(50)
                wait_until(lambda: server.sink()["state"] != "running", PATIENCE)
                self.assertEqual((up.requests, server.sink()["pending"]), ([], 50))

    # several sinks

    def test_a_dead_sink_never_delays_a_healthy_one(self):
        troubles = {"down": None, "silent": silence(), "refusing": status(503), "closed": status(403)}
        with Upstream() as healthy:
            ups = {name: Upstream(mode).up() for name, mode in troubles.items()}
            arguments = sink("healthy", healthy.url())
            for name, up in ups.items():
                arguments += sink(name, up.url(), timeout="30s")
            ups["down"].down()
            with Watched(*arguments) as server:
                lsns = []
                for i in range(10):
                    lsns += server.send(100, first=i * 100)
                    wait_until(lambda: server.sink("healthy")["pending"] == 0, PATIENCE)
                server.drained(lsns, "healthy")
                Oracle(healthy).check(lsns)
                for name in ups:
                    self.assertEqual(server.sink(name)["pending"], 1000, name)
                ups["down"].up()
                for name, up in ups.items():
                    up.mode = ok()
                for name in ("down", "refusing", "closed"):
                    server.drained(lsns, name)
                    Oracle(ups[name]).check(lsns)
            for up in ups.values():
                up.down()

    def test_a_stop_does_not_wait_for_a_dead_sink(self):
        with Upstream(silence()) as up, Watched(*sink("up", up.url(), timeout="60s"), "--set", "server.stop_timeout=20s") as server:
            server.send(50)
            wait_until(lambda: len(up.requests) > 0, PATIENCE)
            server.stop_clean()
            up.mode = ok()
            server.start()
            server.drained(range(1, 51))
            Oracle(up).check(range(1, 51))

    # offline, restarts, kill -9

    def test_hours_offline_with_restarts_in_between_end_in_a_full_delivery(self):
        with Upstream() as up, Watched(*sink("up", up.url())) as server:
            lsns = server.send(100)
            server.drained(lsns)
            up.down()
            for i in range(4):
                lsns += server.send(300, first=1000 * i)
                if i % 2 == 0:
                    server.kill9()
                else:
                    self.assertEqual(server.stop(), 0)
                server.start()
                wait_until(lambda: server.sink()["durable"] == len(lsns), PATIENCE)
                self.assertEqual(server.sink()["pending"], len(lsns) - 100)
            up.up()
            server.drained(lsns)
            oracle = Oracle(up).check(lsns)
            oracle.bytes_are_those_of(server.dump_lines())

    def test_kill_9_at_any_moment_delivers_once(self):
        seed = int(os.environ.get("SLUICE_TEST_SEED", random.randrange(1 << 30)))
        print(f"SLUICE_TEST_SEED={seed}")
        rng, dice = random.Random(seed), random.Random(seed + 1)
        kinds = [ok, ok, ok, lost, lost_reset, cut, lambda: status(503), lambda: too_many(seconds=0), lambda: slow(0.05), reset]
        mode = switch(lambda request: dice.choice(kinds)() if POISON not in request.body else status(400, b"poison"))
        with Upstream(mode) as up, Watched(*sink("up", up.url(), timeout="1s")) as server:
            acked, poisoned = [], []
            for cycle in range(KILLS):
                deadline = time.monotonic() + rng.uniform(0.02, 0.6)
                number = 0
                while time.monotonic() < deadline:
                    number += 1
                    is_bad = rng.random() < 0.05
                    lsns = server.send(1 if is_bad else rng.randint(1, 120), first=cycle * 1000000 + number * 1000, **({"note": POISON.decode()} if is_bad else {}))
                    (poisoned if is_bad else acked).extend(lsns)
                server.kill9()
                server.start()
            up.mode = poison()
            server.drained(acked + poisoned)
            oracle = Oracle(up).check(acked)
            oracle.bytes_are_those_of(server.dump_lines())
            self.assertEqual(server.sink()["quarantined"], len(poisoned))
            server.stop_clean()
            print(f"{KILLS} kills, {len(acked)} records, {len(oracle.requests)} requests, "
                  f"{len(oracle.stored) - len(oracle.by_key())} stored twice")

    def test_a_lost_database_is_made_again_and_said(self):
        with Upstream() as up, Watched(*sink("up", up.url())) as server:
            lsns = server.send(100)
            server.drained(lsns)
            self.assertEqual(server.stop(), 0)
            with open(os.path.join(server.data_dir, "forward.sqlite"), "r+b") as file:
                file.write(b"\0" * 5000)
            server.start()
            lsns += server.send(20, first=500)
            server.drained(lsns)
            self.assertTrue(os.path.exists(os.path.join(server.data_dir, "forward.sqlite.damaged")))
            self.assertIn("forward.sqlite", server.log_text())
            self.assertEqual(set(up.lsns()), set(lsns))

    def flood(self, server, mib):
        """Poorly compressible records, so that segments stay large."""
        lsns = []
        for i in range(mib):
            more = {"first": i * 1000, "padding": random.Random(i).randbytes(900).hex()}
            while (sent := server.offer(512, **more)) is None:  # 429: the cores are busy, and expiry is late
                time.sleep(0.1)
            lsns += sent
        return lsns

    def expire_under_a_dead_sink(self, up):
        """A server whose log had to give up records that its sink had not delivered; and the LSNs that were sent."""
        server = Watched(*sink("up", up.url(), batch_records=500), "--set", "store.retention_bytes=24M", "--set", "store.segment_bytes=8M", "--set",
                         "store.reserve_bytes=1M", "--set", "store.unforwarded=drop")
        up.down()
        server.__enter__()
        lsns = self.flood(server, 60)
        wait_until(lambda: self.metric(server, "sluice_archive_expired_unforwarded_total") > 0, PATIENCE)
        return server, lsns

    @staticmethod
    def metric(server, name):
        return next(float(line.split()[-1]) for line in server.get("/metrics").body.decode().split("\n") if line.startswith(name + " "))

    def test_what_a_disk_budget_took_is_counted_and_the_rest_is_delivered(self):
        with Upstream() as up:
            server, lsns = self.expire_under_a_dead_sink(up)
            try:
                up.up()
                server.drained(lsns)
                of, got = server.sink(), set(up.lsns())
                self.assertGreater(of["expired"]["retention"], 0)
                self.assertEqual(of["delivered"] + of["expired"]["retention"], len(lsns))
                self.assertEqual(len(got), of["delivered"])
                Oracle(up).check(got)
                self.assertIn(lsns[-1], got)
            finally:
                server.__exit__(None)

    def test_what_a_disk_budget_took_is_not_called_pending_while_the_upstream_is_down(self):
        with Upstream() as up:
            server, lsns = self.expire_under_a_dead_sink(up)
            try:
                wait_until(lambda: server.sink()["expired"]["retention"] > 0, 20)
                self.assertLess(server.sink()["pending"], len(lsns))
            finally:
                up.up()
                server.__exit__(None)

    def test_a_log_that_a_sink_still_needs_is_kept_and_ingest_is_refused_instead(self):
        budget = ["--set", "store.retention_bytes=24M", "--set", "store.segment_bytes=8M", "--set", "store.reserve_bytes=1M"]
        with Upstream() as up, Watched(*sink("up", up.url(), batch_records=500), *budget) as server:
            up.down()
            lsns, refused = [], None
            for i in range(80):
                body = b"\n".join(encode(record(i * 1000 + n, padding=random.Random(i).randbytes(900).hex())) for n in range(512))
                answer = server.post("/v1/logs", body, {"Content-Type": "application/x-ndjson"})
                if answer.status != 202:
                    refused = answer
                    break
                lsns += range(answer.json()["first_lsn"], answer.json()["last_lsn"] + 1)
            if refused is not None:
                self.assertIn(refused.status, (429, 503))
                self.assertIn("retry-after", refused.headers)
            self.assertEqual(server.sink()["expired"]["retention"], 0)
            up.up()
            server.drained(lsns)
            Oracle(up).check(lsns)

    # after an outage

    def test_live_data_does_not_wait_for_the_backlog_and_is_never_mixed_with_it(self):
        with Upstream() as up:
            up.down()
            # Some 26 MB of backlog at 2 MB a second: it is not through when the live records come.
            arguments = sink("up", up.url(), batch_records=1000, rate="2M", batch_bytes="256K")
            with Watched(*arguments) as server:
                old = []
                for i in range(120):
                    old += server.send(1000, first=i * 1000)
                boundary = json.loads(server.dump_lines("--from-lsn", str(old[-1]))[0])["received_at"]
                up.up()
                wait_until(lambda: len(up.stored) > 3, PATIENCE)
                live, waits = [], []
                for i in range(10):
                    lsns = server.send(5, first=1000000 + i * 10)
                    live += lsns
                    wait_until(lambda: set(lsns) <= set(self.newest(up)), PATIENCE)
                    waits.append(server.sink()["pending"])
                self.assertGreater(min(waits), 0, "the backlog was through too early: the test tests nothing")
                server.drained(old + live)
                oracle = Oracle(up).check(old + live)
                oracle.never_mixed(lambda entry: entry["received_at"] <= boundary)

    def test_an_outage_of_seconds_ends_without_old_and_new_records_in_one_request(self):
        with Upstream() as up, Watched(*sink("up", up.url(), batch_records=1000, connections=2)) as server:
            lsns = server.send(20)
            server.drained(lsns)
            up.down()
            until = time.monotonic() + 5
            while time.monotonic() < until:
                lsns += server.send(5, first=len(lsns))
                time.sleep(0.1)
            up.up()
            while server.sink()["pending"] > 0 or len(lsns) < 300:
                lsns += server.send(2, first=len(lsns))
                time.sleep(0.02)
            server.drained(lsns)
            Oracle(up).check(lsns)
            for request in up.requests:
                times = [received(entry) for entry in request.records()]
                all_old = request.real_at - max(times) > 5
                self.assertTrue(max(times) - min(times) <= 2.0 or all_old, f"old and new in {request}")

    def test_records_that_are_encoded_in_another_way_have_another_key(self):
        with Upstream(lost()) as up, Watched(*sink("up", up.url())) as server:
            lsns = server.send(200)
            wait_until(lambda: len(up.stored) > 3, PATIENCE)
            self.assertEqual(server.stop(), 0)
            server.arguments += ["--set", "sink.up.format=array"]
            up.mode = ok()
            server.start()
            server.drained(lsns)
            Oracle(up).keys_say_what_is_in_them()
            self.assertGreater(self.metric(server, 'sluice_sink_refrozen_total{sink="up"}'), 0)
            self.assertEqual({lsn for request in up.requests if request.status == 200 for lsn in request.lsns()}, set(lsns))

    @staticmethod
    def newest(up):
        """LSNs of the last stored requests; all of them would be much to parse again and again."""
        with up.lock:
            stored = up.stored[-40:]
        return [lsn for request in stored for lsn in request.lsns()]

    # item by item

    def test_bulk_items_are_judged_one_by_one(self):
        turns = {}

        def decide(identifier, source):
            turn = turns[identifier] = turns.get(identifier, 0) + 1
            number = int(source["message"].split()[1]) if "message" in source else 0
            if number % 10 == 3:
                return 400
            return 429 if number % 10 == 7 and turn < 3 else None

        with Upstream(bulk(decide)) as up:
            up.next(switch(lambda request: self.stored_but_lost(decide)))
            with Watched(*sink("up", up.url(""), type="opensearch", index="logs-%Y.%m.%d")) as server:
                lsns = server.send(200)
                server.drained(lsns)
                self.assertEqual(up.problems, [])
                self.assertEqual(len(up.documents), 180)
                of = server.sink()
                self.assertEqual((of["delivered"], of["quarantined"]), (180, 20))
                ids = {json.loads(line)["id"] for line in server.dump_lines()}
                self.assertLessEqual(set(up.documents), ids)
                for item in self.items(server):
                    self.assertEqual(item["status"], 400)

    @staticmethod
    def stored_but_lost(decide):
        """The upstream does what it is asked; its answer never arrives. What comes again are 409s."""
        class Deaf:
            def __init__(self, exchange):
                self.exchange = exchange

            def sendall(self, _):
                pass

        def act(exchange):
            exchange.connection = Deaf(exchange)
            bulk(decide)(exchange)
            return False
        return act


class SmallDisk(unittest.TestCase):
    """A file system of 48 MiB that somebody else fills: neither the log nor forward.sqlite can be written."""

    @classmethod
    def setUpClass(cls):
        cls.mount = tempfile.mkdtemp(prefix="sluice-disk-")
        if os.geteuid() != 0 or shutil.which("mount") is None:
            os.rmdir(cls.mount)
            raise unittest.SkipTest("only root can mount a small file system")
        result = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", cls.mount], capture_output=True, text=True)
        if result.returncode != 0:
            os.rmdir(cls.mount)
            raise unittest.SkipTest(f"no tmpfs here: {result.stderr.strip()}")

    @classmethod
    def tearDownClass(cls):
        subprocess.run(["umount", cls.mount], capture_output=True)
        os.rmdir(cls.mount)

    def fill(self):
        path = os.path.join(self.mount, "filler")
        with open(path, "ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        file.write(b"\xaa" * size)
                except OSError:
                    pass
        return path

    @staticmethod
    def post(server, first):
        body = b"\n".join(encode(record(first + i, padding="x" * 500)) for i in range(20))
        return server.post("/v1/logs", body, {"Content-Type": "application/x-ndjson"})

    def test_a_full_disk_stops_neither_the_process_nor_the_promise_and_delivery_goes_on_with_room(self):
        with Upstream() as up:
            server = Watched(*sink("up", up.url()), "--set", "store.allow_volatile=true", data_dir=os.path.join(self.mount, "data"))
            with server:
                lsns, refused, number = server.send(100), 0, 0
                server.drained(lsns)
                filler = self.fill()
                up.mode = switch(lambda request: random.choice((ok, lost, lambda: status(503)))())
                until = time.monotonic() + 6
                while time.monotonic() < until or (refused == 0 and number < 3000):
                    number += 1
                    self.fill()  # whatever became free
                    answer = self.post(server, 1000 + number * 20)
                    if answer.status == 202:
                        lsns += range(answer.json()["first_lsn"], answer.json()["last_lsn"] + 1)
                    else:
                        self.assertIn(answer.status, (429, 503))
                        self.assertIn("retry-after", answer.headers)
                        refused += 1
                        time.sleep(0.02)
                self.assertGreater(refused, 0, "the disk was never full: the test tests nothing")
                self.assertIsNone(server.process.poll())
                os.unlink(filler)
                wait_until(lambda: self.post(server, 500).status == 202, PATIENCE)
                up.mode = ok()
                everything = [json.loads(line)["lsn"] for line in server.dump_lines()]
                self.assertLessEqual(set(lsns), set(everything))
                server.drained(everything)
                Oracle(up).check(everything)
                print(f"{refused} of {number} requests refused, {len(everything)} records, "
                      f"{sum('forward_db' in line for line in server.log)} lines about forward.sqlite")
                server.stop_clean()


if __name__ == "__main__":
    unittest.main()
