"""A sink of type sluice: real servers, one sending to the other, in chains, pairs and rings. Every record is everywhere exactly once,
under its own id, over kill -9. SLUICE_TEST_KILLS sets how often."""
import contextlib
import json
import os
import random
import subprocess
import time
import unittest

from harness import Server, encode, record, request_bytes, wait_until
from upstream import Upstream

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "6"))


def sender_of(receiver_port, **more):
    settings = {"type": "sluice", "url": f"http://127.0.0.1:{receiver_port}", "linger": "10ms", "batch_records": "37",
                "backoff_min": "20ms", "backoff_max": "200ms", "pause_retry": "1s", **more}
    return Server(*[word for key, value in settings.items() for word in ("--set", f"sink.up.{key}={value}")])


def sink(server):
    return server.ledger()["sinks"]["up"]


class SluiceSink(unittest.TestCase):
    def expect_equal(self, sender, receiver):
        sent = [(line["lsn"], line["id"], line["kind"], line["record"]) for line in sender.dump()]
        got = [(line["origin"]["lsn"], line["id"], line["kind"], line["record"]) for line in receiver.dump()]
        self.assertEqual(len(got), len(sent))
        self.assertEqual(sorted(got), sent)

    def test_records_of_all_kinds_and_shapes_arrive_once(self):
        with Server() as receiver, sender_of(receiver.port) as sender:
            sender.post("/v1/logs", [record(n, nested={"h\u00e9": [1, None, "\n"]}) for n in range(100)])
            sender.post("/v1/logs", b'[{"timestamp" :\n"2025-08-25T10:00:00Z",\r\n"service":"s","level":"INFO",\n"message":"m"}\n]')
            sender.post("/v1/metrics", {"timestamp": "2025-08-25T10:00:00Z", "service": "s", "name": "n", "value": 1.5})
            sender.post("/v1/events", {"event_id": "e-1", "event_type": "info", "source": "s", "message": "m"})
            wait_until(lambda: sink(sender)["delivered"] == 103, 20)
            self.expect_equal(sender, receiver)

    def test_a_repeated_event_id_is_the_same_record_on_both_sides(self):
        with Server() as receiver, sender_of(receiver.port) as sender:
            for _ in range(3):
                sender.post("/v1/events", {"event_id": "e-1", "event_type": "info", "source": "s", "message": "m"})
            wait_until(lambda: sink(sender)["delivered"] == 1, 20)  # "pending" may be older than the answers
            self.expect_equal(sender, receiver)

    def test_kills_of_both_sides_leave_each_record_once(self):
        seed = random.randrange(1 << 32)
        choose = random.Random(seed)
        with Server() as receiver, sender_of(receiver.port) as sender:
            port = receiver.port
            receiver.arguments += ["--listen", f"127.0.0.1:{port}"]
            count = 0
            for _ in range(KILLS):
                sender.post("/v1/logs", [record(count + n) for n in range(400)])
                count += 400
                wait_until(lambda: sink(sender)["delivered"] >= count - 400 * choose.random(), 20)
                if choose.random() < 0.5:
                    sender.kill9()
                    sender.start()
                else:
                    receiver.kill9()
                    receiver.start()
            wait_until(lambda: sink(sender)["delivered"] == count, 30)
            self.assertEqual(sink(sender)["quarantined"], 0, f"seed {seed}")
            self.expect_equal(sender, receiver)

    def test_a_loop_pauses_the_sink_and_loses_nothing(self):
        with Server() as server:
            server.stop()
            server.arguments += ["--listen", f"127.0.0.1:{server.port}", "--set", "sink.up.type=sluice", "--set",
                                 f"sink.up.url=http://127.0.0.1:{server.port}", "--set", "sink.up.linger=10ms"]
            server.start()
            server.post("/v1/logs", [record(n) for n in range(5)])
            wait_until(lambda: sink(server)["state"] == "paused", 20)
            self.assertEqual((sink(server)["pending"], sink(server)["quarantined"]), (5, 0))
            self.assertEqual(len(list(server.dump())), 5)


def settings_of(name, port, **more):
    settings = {"type": "sluice", "url": f"http://127.0.0.1:{port}", "linger": "5ms", "batch_records": "29", "backoff_min": "10ms",
                "backoff_max": "100ms", "pause_retry": "200ms", **more}
    return [word for key, value in settings.items() for word in ("--set", f"sink.{name}.{key}={value}")]


def node_of(server):
    with open(os.path.join(server.data_dir, "node")) as file:
        return file.read().strip()


METRIC = {"timestamp": "2025-08-25T10:00:00Z", "service": "s", "name": "n", "value": 1.5}


class Topologies(unittest.TestCase):
    """arrows: (from, to, more settings). Each server keeps its port."""

    def start(self, count, arrows):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        servers = [stack.enter_context(Server()) for _ in range(count)]
        for server in servers:
            server.stop()
            server.arguments += ["--listen", f"127.0.0.1:{server.port}"]
        for number, (start, end, more) in enumerate(arrows):
            servers[start].arguments += settings_of(f"s{number}", servers[end].port, **more)
        for server in servers:
            server.start()
        return servers

    def settled(self, servers):
        """Nothing is under way, and nothing begins again."""
        def is_calm():
            return all(sink["pending"] == 0 for server in servers for sink in server.ledger()["sinks"].values())

        def picture():
            return [len(server.dump_lines()) for server in servers]
        before = None
        for _ in range(200):
            wait_until(is_calm, 30)
            now = picture()
            if before == now:
                return now
            before = now
            time.sleep(0.3)
        self.fail(f"records go round: {before}")

    def expect_everywhere(self, servers, count):
        self.settled(servers)
        ids = [[line["id"] for line in server.dump()] for server in servers]
        for found in ids:
            self.assertEqual(len(found), len(set(found)))
            self.assertEqual(set(found), set(ids[0]))
            self.assertEqual(len(found), count)
        for server in servers:
            self.assertTrue(all(sink["quarantined"] == 0 for sink in server.ledger()["sinks"].values()))
            self.assertEqual(server.verify().returncode, 0)

    def post_everywhere(self, servers, each=100):
        for round_ in range(4):
            for place, server in enumerate(servers):
                server.post("/v1/logs", [record(f"{place}-{round_}-{n}") for n in range(each // 4)])

    def test_a_pair_that_sends_to_each_other(self):
        servers = self.start(2, [(0, 1, {}), (1, 0, {})])
        self.post_everywhere(servers)
        self.expect_everywhere(servers, 200)

    def test_a_pair_that_an_edge_sends_to(self):
        servers = self.start(3, [(0, 1, {}), (1, 2, {}), (2, 1, {})])
        servers[0].post("/v1/logs", [record(n) for n in range(100)])
        self.expect_everywhere(servers, 100)

    def test_a_ring_of_three(self):
        servers = self.start(3, [(0, 1, {}), (1, 2, {}), (2, 0, {})])
        self.post_everywhere(servers)
        self.expect_everywhere(servers, 300)

    def test_three_that_all_send_to_each_other(self):
        servers = self.start(3, [(a, b, {}) for a in range(3) for b in range(3) if a != b])
        self.post_everywhere(servers)
        self.expect_everywhere(servers, 300)

    def test_a_ring_keeps_its_promise_over_kills(self):
        seed = random.randrange(1 << 32)
        choose = random.Random(seed)
        servers = self.start(3, [(a, b, {}) for a in range(3) for b in range(3) if a != b])
        for _ in range(max(2, KILLS // 2)):
            self.post_everywhere(servers, 40)
            victim = choose.choice(servers)
            time.sleep(choose.random() / 5)
            victim.kill9()
            victim.start()
        with self.subTest(seed=seed):
            self.expect_everywhere(servers, 120 * max(2, KILLS // 2))

    def test_a_chain_keeps_origin_id_and_event_time(self):
        servers = self.start(4, [(0, 1, {}), (1, 2, {}), (2, 3, {})])
        for server in servers:
            server.post("/v1/metrics", {"name": "without-a-time", "value": 1})
        servers[0].post("/v1/logs", [record(n) for n in range(50)])
        self.assertEqual(self.settled(servers), [51, 52, 53, 54])
        first, last = servers[0].dump(), servers[3].dump()
        node = node_of(servers[0])
        came = {line["origin"]["lsn"]: line for line in last if line.get("origin", {}).get("node") == node}
        self.assertEqual({lsn: line["id"] for lsn, line in came.items()}, {line["lsn"]: line["id"] for line in first})
        shown = [json.dumps(server.get("/v1/metrics?name=without-a-time").json()) for server in servers]
        self.assertIn(first[0]["id"], shown[3])
        # When it happened is what the first node says; between two milliseconds around that, the last one finds it as well.
        at = time.strptime(first[0]["received_at"][:19], "%Y-%m-%dT%H:%M:%S")
        window = time.strftime("start_time=%Y-%m-%dT%H:%M:%S", at) + ".000Z&end_time=" + first[0]["received_at"]
        self.assertIn(first[0]["id"], json.dumps(servers[3].get("/v1/metrics?" + window).json()))

    def test_two_sinks_of_different_kinds_to_one_place(self):
        servers = self.start(2, [(0, 1, {"kinds": "log"}), (0, 1, {"kinds": "metric,event"})])
        for n in range(60):
            servers[0].post("/v1/logs", record(n))
            servers[0].post("/v1/metrics", METRIC)
        self.expect_everywhere(servers, 120)

    def test_a_sink_that_is_added_for_other_kinds_brings_all_of_them(self):
        servers = self.start(2, [(0, 1, {"kinds": "log"})])
        for n in range(40):
            servers[0].post("/v1/logs", record(n))
            servers[0].post("/v1/metrics", METRIC)
        self.assertEqual(self.settled(servers), [80, 40])
        servers[0].stop()
        servers[0].arguments += settings_of("more", servers[1].port, kinds="metric", **{"from": "begin"})
        servers[0].start()
        self.expect_everywhere(servers, 80)

    def test_gaps_without_end_do_not_fill_the_receiver(self):
        """A filter leaves a gap between any two records: more of them than one sender may have intervals."""
        servers = self.start(2, [(0, 1, {"kinds": "log", "batch_records": "1000"})])
        connections = [servers[0].connect() for _ in range(2)]
        with connections[0], connections[1]:
            for start in range(0, 5000, 250):
                connections[0].send(b"".join(request_bytes("POST", path, encode(body)) for n in range(start, start + 250)
                                             for path, body in (("/v1/logs", record(n)), ("/v1/metrics", METRIC))))
                for _ in range(500):
                    self.assertEqual(connections[0].response().status, 202)
        self.assertEqual(self.settled(servers), [10000, 5000])

    def test_runs_and_gpu_telemetry_pass_through(self):
        servers = self.start(3, [(0, 1, {}), (1, 2, {})])
        edge = "01J8ZZZZZZZZZZZZZZZZZZZZZE"
        lines = [{"id": f"01J8ZZZZZZZZZZZZZZZZZZZZ0{n}", "lsn": n, "kind": kind, "received_at": "2025-08-25T10:00:01Z",
                  "event_time": 1756116001000000000 + n, "record": {"n": n}} for n, kind in ((1, "run"), (2, "gpu"), (3, "run"))]
        body = "\n".join(json.dumps(line) for line in lines).encode()
        self.assertEqual(servers[0].post("/v1/replicate", body, {"Sluice-Node": edge}).status, 200)
        self.expect_everywhere(servers, 3)
        self.assertEqual([(line["kind"], line["origin"]) for line in servers[2].dump()],
                         [(line["kind"], {"node": edge, "lsn": line["lsn"]}) for line in lines])


def said(rejected=0, listed=()):
    """Answers as a Sluice does: so many records rejected, some of them named."""
    def act(exchange):
        lines = len(exchange.request.body.splitlines())
        exchange.store()
        return exchange.answer(200, json.dumps({"status": "accepted", "accepted": lines - rejected, "duplicates": 0, "rejected": rejected,
                                                "errors": [{"index": index, "detail": "not this one"} for index in listed]}).encode())
    return act


ALL = "log,metric,event,run,gpu"


class Claims(unittest.TestCase):
    """Sluice-Range settles LSNs that are not carried: it may stand only where every record of those kinds is carried."""

    def requests(self, upstream):
        return [(request.headers.get("sluice-range"), request.headers.get("sluice-kinds"),
                 [json.loads(line)["lsn"] for line in request.body.splitlines()]) for request in upstream.requests]

    def sender(self, upstream, **more):
        settings = {"linger": "300ms", "batch_records": "1000", **more}
        return Server(*settings_of("up", upstream.port, **settings))

    def test_a_whole_batch_claims_its_range(self):
        with Upstream(said()) as upstream, self.sender(upstream) as sender:
            sender.post("/v1/logs", [record(n) for n in range(10)])
            wait_until(lambda: sink(sender)["delivered"] == 10, 20)
            self.assertEqual(self.requests(upstream), [("1-10", ALL, list(range(1, 11)))])

    def test_what_is_left_of_a_batch_claims_nothing(self):
        with Upstream(said()) as upstream, self.sender(upstream) as sender:
            upstream.next(said(2, [3]))  # one is not named: all but the named one are asked for again
            sender.post("/v1/logs", [record(n) for n in range(10)])
            wait_until(lambda: sink(sender)["delivered"] == 9, 20)
            self.assertEqual(sink(sender)["quarantined"], 1)
            first, rest = self.requests(upstream)
            self.assertEqual(first, ("1-10", ALL, list(range(1, 11))))
            self.assertEqual(rest, (None, ALL, [1, 2, 3, 5, 6, 7, 8, 9, 10]))
            # Nor does the record that comes back from quarantine.
            self.assertEqual(sender.post("/v1/quarantine/1/requeue", b"").status // 100, 2)
            wait_until(lambda: sink(sender)["delivered"] == 10, 20)
            self.assertEqual(self.requests(upstream)[2:], [(None, ALL, [4])])

    def test_a_filtered_sink_claims_its_kinds_and_so_does_what_is_left(self):
        with Upstream(said()) as upstream, self.sender(upstream, kinds="log,event") as sender:
            upstream.next(said(2, [0]))
            sender.post("/v1/logs", record(1))
            sender.post("/v1/metrics", METRIC)
            sender.post("/v1/logs", record(2))
            sender.post("/v1/metrics", METRIC)
            wait_until(lambda: sink(sender)["delivered"] == 1, 20)
            ranges = [found[0] for found in self.requests(upstream)]
            self.assertIn(ranges[0], ("1-3", "1-4"))
            self.assertEqual([found[1:] for found in self.requests(upstream)], [("log,event", [1, 3]), ("log,event", [3])])
            self.assertEqual(ranges[1], None)

    def test_a_filtered_replay_claims_nothing(self):
        with Upstream(said()) as upstream, Server() as server:
            for n in range(10):
                server.post("/v1/logs", record(n, level="ERROR" if n % 3 == 0 else "INFO"))
            words = [word for key in ("linger=10ms",) for word in ("--set", "sink." + key)]
            for more in (["--filter", "level=ERROR"], ["--from", "2001-01-01T00:00:00Z"], []):
                result = subprocess.run([server.command()[0], "replay", "--data-dir", server.data_dir, "--type", "sluice", "--to",
                                         f"http://127.0.0.1:{upstream.port}", *words, *more], capture_output=True, timeout=60)
                self.assertEqual(result.returncode, 0, result.stderr)
            found = self.requests(upstream)
            self.assertEqual([request[0] for request in found], [None, None, "1-10"])
            self.assertEqual([len(request[2]) for request in found], [4, 10, 10])


if __name__ == "__main__":
    unittest.main()
