"""POST /v1/replicate on the real server: what another Sluice sends is stored exactly once by its node and LSN, whatever is
sent again, in whatever order, over kill -9. SLUICE_TEST_KILLS sets how often."""
import gzip
import json
import os
import random
import tempfile
import threading
import time
import unittest

from harness import Connection, Server, record, request_bytes

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "10"))
NODE_A = "01J8ZZZZZZZZZZZZZZZZZZZZZA"
NODE_B = "01J8ZZZZZZZZZZZZZZZZZZZZZB"
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid_of(node, lsn):
    text = ""
    for _ in range(13):
        text = DIGITS[lsn % 32] + text
        lsn //= 32
    return "01J8" + node[-1] + "00000000" + text


def line(node, lsn, kind="log", content=None, **more):
    fields = {"id": ulid_of(node, lsn), "lsn": lsn, "kind": kind, "received_at": "2025-08-25T10:00:01.123456Z",
              "record": record(f"{node}-{lsn}") if content is None else content}
    fields.update(more)
    return json.dumps(fields)


def headers(node, first=None, last=None, **more):
    fields = {"Sluice-Node": node, "Content-Type": "application/x-ndjson"}
    if first is not None:
        fields["Sluice-Range"] = f"{first}-{last}"
    fields.update(more)
    return fields


def send(server, node, first, last, lines=None):
    lines = [line(node, lsn) for lsn in range(first, last + 1)] if lines is None else lines
    return server.post("/v1/replicate", "\n".join(lines).encode(), headers(node, first, last))


def counts(answer):
    body = answer.json()
    return body["accepted"], body["duplicates"], body["rejected"]


def stored(server):
    """(node, lsn) of every record that came from another node, in log order."""
    origins = (shown.get("origin") for shown in server.dump())
    return [(origin["node"], origin["lsn"]) for origin in origins if origin is not None]


class Sender(threading.Thread):
    """Sends random, overlapping ranges of one node until the server is gone; remembers what was answered."""

    def __init__(self, port, node, seed, settled):
        super().__init__(daemon=True)
        self.port, self.node, self.random, self.settled = port, node, random.Random(seed), settled
        self.problems = []

    def run(self):
        try:
            with Connection(self.port, timeout=20) as connection:
                while True:
                    self.step(connection)
        except (ConnectionError, TimeoutError, OSError):
            pass
        except AssertionError as problem:
            if "closed inside" not in str(problem):
                self.problems.append(str(problem))

    def step(self, connection):
        first = self.random.randint(1, 3000)
        last = min(3000, first + self.random.randint(0, 60))
        body = "\n".join(line(self.node, lsn) for lsn in range(first, last + 1)).encode()
        connection.send(request_bytes("POST", "/v1/replicate", body, headers(self.node, first, last)))
        answer = connection.response()
        if answer is None:
            raise ConnectionError
        if answer.status != 200 or sum(counts(answer)) != last - first + 1:
            raise AssertionError(f"{answer}")
        self.settled.update((self.node, lsn) for lsn in range(first, last + 1))


class ExactlyOnce(unittest.TestCase):
    def test_each_is_there_once_over_kills_and_a_lost_or_damaged_cache(self):
        generator = random.Random(4711)
        settled = set()
        with Server() as server:
            for life in range(KILLS):
                senders = [Sender(server.port, node, life * 10 + i, settled)
                           for i, node in enumerate([NODE_A, NODE_A, NODE_B])]
                for sender in senders:
                    sender.start()
                time.sleep(generator.uniform(0.1, 2.5 if life % 4 == 0 else 0.5))
                server.kill9()
                for sender in senders:
                    sender.join(20)
                    self.assertEqual(sender.problems, [])
                self.spoil(server, generator)
                server.start()
            found = stored(server)
            self.assertEqual(len(found), len(set(found)))
            self.assertEqual(settled - set(found), set())
            self.assertGreater(len(settled), 100)
            for node in (NODE_A, NODE_B):  # and all of it once more, in one go
                answer = send(server, node, 1, 3000)
                self.assertEqual(sum(counts(answer)), 3000)
                self.assertEqual(counts(answer)[1], sum(1 for origin in found if origin[0] == node))
            found = stored(server)
            self.assertEqual(sorted(found), sorted((node, lsn) for node in (NODE_A, NODE_B) for lsn in range(1, 3001)))
            self.assertEqual(server.verify().returncode, 0)
            self.assertTrue(server.ledger()["balanced"])

    def spoil(self, server, generator):
        path = os.path.join(server.data_dir, "origins")
        what = generator.randrange(3)
        if not os.path.exists(path) or what == 0:
            return
        if what == 1:
            os.unlink(path)
            return
        with open(path, "r+b") as file:
            size = os.path.getsize(path)
            file.seek(generator.randrange(size))
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))

    def test_an_orderly_stop_leaves_the_cache_and_its_loss_changes_nothing(self):
        with Server() as server:
            send(server, NODE_A, 1, 50)
            server.stop_clean()
            path = os.path.join(server.data_dir, "origins")
            self.assertTrue(os.path.exists(path))
            for loses in (False, True):
                if loses:
                    os.unlink(path)
                server.start()
                self.assertEqual(counts(send(server, NODE_A, 1, 50)), (0, 50, 0))
                server.stop_clean()
            server.start()
            self.assertEqual(len(stored(server)), 50)

    def test_what_was_not_sent_by_a_node_has_no_origin(self):
        with Server() as server:
            server.post("/v1/logs", record(1))
            send(server, NODE_A, 7, 7)
            lines = server.dump()
            self.assertNotIn("origin", lines[0])
            self.assertEqual(lines[1]["origin"], {"node": NODE_A, "lsn": 7})


    def test_it_takes_a_token_that_may_ingest(self):
        with tempfile.NamedTemporaryFile("w", suffix=".tokens") as tokens:
            tokens.write(f"sender {'a' * 40} ingest\nreader {'b' * 40} read\n")
            tokens.flush()
            os.chmod(tokens.name, 0o600)
            with Server("--set", "auth.enabled=true", "--set", f"auth.tokens={tokens.name}") as server:
                body = line(NODE_A, 1).encode()
                for token, status in [("a" * 40, 200), ("b" * 40, 403), ("c" * 40, 401)]:
                    fields = headers(NODE_A, 1, 1, Authorization=f"Bearer {token}")
                    self.assertEqual(server.post("/v1/replicate", body, fields).status, status)


class Records(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server().start()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def test_id_kind_and_bytes_stay_as_they_were(self):
        node = NODE_A[:-1] + "C"
        content = '{"timestamp":  "2025-08-25T10:00:00.5Z", "service":"a","level":"ERROR","message":"x","z":[1, 2]}'
        text = line(node, 5).replace(json.dumps(record(f"{node}-5")), content)
        self.assertEqual(counts(send(self.server, node, 5, 5, [text])), (1, 0, 0))
        self.assertIn('"record":' + content + "}", self.server.dump_lines()[-1].decode())
        self.assertEqual(self.server.dump()[-1]["id"], ulid_of(node, 5))
        found = self.server.get("/v1/logs?service=a&level=ERROR&start_time=2025-08-25T10:00:00.4Z").json()
        self.assertIn(ulid_of(node, 5), json.dumps(found))

    def test_metrics_and_events_come_too_and_take_their_receipt_time(self):
        node = NODE_A[:-1] + "D"
        lines = [line(node, 1, "metric", {"name": "m", "value": 1.5}),
                 line(node, 2, "event", {"event_id": "e-1", "event_type": "info", "source": "s", "message": "m"})]
        answer = send(self.server, node, 1, 2, lines)
        self.assertEqual(answer.status, 200)
        self.assertEqual(counts(answer)[2], 0, answer.json())
        self.assertEqual([shown["kind"] for shown in self.server.dump()[-2:]], ["metric", "event"])
        window = "start_time=2025-08-25T10:00:01.123Z&end_time=2025-08-25T10:00:01.124Z"
        self.assertIn(ulid_of(node, 1), json.dumps(self.server.get("/v1/metrics?" + window).json()))

    def test_the_same_event_id_of_two_nodes_are_two_records(self):
        content = {"event_id": "e-same", "event_type": "info", "source": "s", "message": "m"}
        for digit in "EF":
            node = NODE_A[:-1] + digit
            self.assertEqual(counts(send(self.server, node, 1, 1, [line(node, 1, "event", content)])), (1, 0, 0))

    def test_a_rejected_record_is_rejected_alone_and_may_come_again(self):
        node = NODE_A[:-1] + "G"
        lines = [line(node, 1), line(node, 2, content={"service": "x"}), line(node, 3), line(node, 4, "run", [1]),
                 line(node, 5, "gpu", 5), line(node, 6, "nonsense", {}), line(node, 7)]
        answer = send(self.server, node, 1, 9, lines)
        self.assertEqual((answer.status, counts(answer)), (200, (3, 0, 4)))
        errors = answer.json()["errors"]
        self.assertEqual([error["index"] for error in errors], [1, 3, 4, 5])
        self.assertEqual(errors[0]["detail"][0]["loc"][:2], ["body", 1])
        self.assertEqual(errors[1]["detail"][0]["loc"], ["body", 3, "record"])
        self.assertEqual(errors[3]["detail"][0]["loc"], ["body", 5, "kind"])
        self.assertEqual(counts(send(self.server, node, 1, 9)), (4, 5, 0))  # 8 and 9 were not for us
        self.assertEqual(counts(send(self.server, node, 1, 9)), (0, 9, 0))

    def test_all_rejected_or_nothing_at_all_is_still_an_answer(self):
        node = NODE_A[:-1] + "H"
        answer = send(self.server, node, 1, 1, [line(node, 1, "gpu", [])])
        self.assertEqual((answer.status, counts(answer)), (200, (0, 0, 1)))
        self.assertEqual(answer.json()["errors"][0]["index"], 0)
        self.assertEqual(counts(send(self.server, node, 1, 5, ["", " "])), (0, 0, 0))

    def test_runs_and_gpu_telemetry_are_stored_as_they_come_and_run_nothing(self):
        node = NODE_A[:-1] + "P"
        lines = [line(node, 1, "run", {"event_id": "run-1", "deep": [{}]}, event_time=1756116001000000000),
                 line(node, 2, "gpu", {"uuid": "GPU-1"}, event_time=-5, severity=4)]
        self.assertEqual(counts(send(self.server, node, 1, 2, lines)), (2, 0, 0))
        shown = self.server.dump()[-2:]
        self.assertEqual([(record["kind"], record["record"]) for record in shown],
                         [("run", {"event_id": "run-1", "deep": [{}]}), ("gpu", {"uuid": "GPU-1"})])
        self.assertEqual(self.server.verify().returncode, 0)

    def test_the_event_time_is_what_the_envelope_says(self):
        node = NODE_A[:-1] + "Q"
        text = line(node, 1, "metric", {"name": "m", "value": 1.5}, event_time=1600000000000000000)
        self.assertEqual(counts(send(self.server, node, 1, 1, [text])), (1, 0, 0))
        window = "start_time=2020-09-13T12:26:40Z&end_time=2020-09-13T12:26:40.001Z"
        self.assertIn(ulid_of(node, 1), json.dumps(self.server.get("/v1/metrics?" + window).json()))

    def test_a_range_of_some_kinds_leaves_the_others_open(self):
        node = NODE_A[:-1] + "R"
        metric = {"name": "m", "value": 1.5}
        body = "\n".join(line(node, lsn) for lsn in (1, 3, 5)).encode()
        fields = headers(node, 1, 9, **{"Sluice-Kinds": "log"})
        self.assertEqual(counts(self.server.post("/v1/replicate", body, fields)), (3, 0, 0))
        fields = headers(node, 1, 9, **{"Sluice-Kinds": "metric,event,unheard-of"})
        body = "\n".join(line(node, lsn, "metric", metric) for lsn in (2, 4, 9)).encode()
        self.assertEqual(counts(self.server.post("/v1/replicate", body, fields)), (3, 0, 0))
        self.assertEqual(counts(self.server.post("/v1/replicate", body, fields)), (0, 3, 0))
        self.assertEqual(counts(send(self.server, node, 7, 7)), (0, 1, 0))
        self.assertEqual(counts(send(self.server, node, 7, 7, [line(node, 7, "run", {})])), (1, 0, 0))
        answer = self.server.post("/v1/replicate", line(node, 20).encode(), fields)
        self.assertEqual(answer.status, 422)

    def test_what_has_been_here_on_its_way_is_a_duplicate(self):
        node, edge = NODE_A[:-1] + "S", NODE_A[:-1] + "T"
        with open(os.path.join(self.server.data_dir, "node")) as file:
            own = file.read().strip()
        before = len(self.server.dump_lines())
        lines = [line(node, 1, origin={"node": own, "lsn": 1}),
                 line(node, 2, origin={"node": edge, "lsn": 1, "via": [NODE_B, own, NODE_B]})]
        self.assertEqual(counts(send(self.server, node, 1, 2, lines)), (0, 2, 0))
        self.assertEqual(len(self.server.dump_lines()), before)
        lines = [line(node, 3, origin={"node": edge, "lsn": 1, "via": [NODE_B]}),
                 line(node, 4, origin={"node": edge, "lsn": 3})]
        self.assertEqual(counts(send(self.server, node, 3, 4, lines)), (2, 0, 0))
        self.assertEqual(self.server.dump()[-1]["origin"], {"node": edge, "lsn": 3})
        self.assertEqual(counts(send(self.server, edge, 1, 3)), (1, 2, 0))  # by the straight way
        other = NODE_A[:-1] + "V"
        self.assertEqual(counts(send(self.server, other, 1, 1, [line(other, 1, origin={"node": edge, "lsn": 2})])), (0, 1, 0))

    def test_too_long_a_way_is_rejected_alone(self):
        node = NODE_A[:-1] + "W"
        lines = [line(node, 1, origin={"node": NODE_B, "lsn": 70, "via": [NODE_B] * 16}),
                 line(node, 2, origin={"node": NODE_B, "lsn": 71, "via": [NODE_B] * 17})]
        answer = send(self.server, node, 1, 2, lines)
        self.assertEqual(counts(answer), (1, 0, 1))
        self.assertEqual(answer.json()["errors"][0]["detail"][0]["loc"], ["body", 1, "origin"])

    def test_more_gaps_than_can_be_remembered_at_once_are_refused(self):
        node = NODE_A[:-1] + "X"
        lines = [line(node, n, "gpu", {}, origin={"node": NODE_B, "lsn": 10**6 + 2 * n}) for n in range(1, 8194)]
        self.assertEqual(send(self.server, node, 1, 9000, lines).status, 413)
        self.assertEqual(counts(send(self.server, node, 1, 8192, lines[:-1])), (8192, 0, 0))
        self.assertEqual(counts(send(self.server, node, 1, 8192, lines[:-1])), (0, 8192, 0))

    def test_without_a_range_only_what_is_carried_is_settled(self):
        node = NODE_A[:-1] + "J"
        body = "\n".join(line(node, lsn) for lsn in (2, 3, 7)).encode()
        self.assertEqual(counts(self.server.post("/v1/replicate", body, headers(node))), (3, 0, 0))
        self.assertEqual(counts(send(self.server, node, 1, 8)), (5, 3, 0))

    def test_compressed_bodies_are_taken(self):
        node = NODE_A[:-1] + "K"
        body = gzip.compress("\n".join(line(node, lsn) for lsn in range(1, 101)).encode())
        answer = self.server.post("/v1/replicate", body, headers(node, 1, 100, **{"Content-Encoding": "gzip"}))
        self.assertEqual(counts(answer), (100, 0, 0))

    def test_a_request_that_is_none_is_refused_whole(self):
        node = NODE_A[:-1] + "M"
        good = line(node, 5).encode()
        with open(os.path.join(self.server.data_dir, "node")) as file:
            own = file.read().strip()
        before = len(self.server.dump_lines())
        for fields, body, word in [
                ({}, good, "Sluice-Node"),
                (headers("nonsense", 1, 9), good, "Sluice-Node"),
                (headers(own, 1, 9), good, "loop"),
                (headers(node, 0, 9), good, "Sluice-Range"),
                (headers(node, 9, 1), good, "Sluice-Range"),
                (headers(node, "", 1), good, "Sluice-Range"),
                (headers(node, 1, 2**63), good, "Sluice-Range"),
                (headers(node, 6, 9), good, "outside"),
                (headers(node, 1, 4), good, "outside"),
                (headers(node, 1, 9), good + b"\n" + good, "ascend"),
                (headers(node, 1, 9), good + b"\n{", "body"),
                (headers(node, 1, 9), b"[]", "object"),
                (headers(node, 1, 9), b'{"lsn": 1}', "all be there"),
                (headers(node, 1, 9), good.replace(b'"lsn": 5', b'"lsn": 5.0'), "lsn"),
                (headers(node, 1, 9), good.replace(b'"lsn": 5', b'"lsn": "5"'), "lsn"),
                (headers(node, 1, 9), good.replace(b'"lsn": 5', b'"lsn": 5, "lsn": 5'), "twice"),
                (headers(node, 1, 9), good.replace(ulid_of(node, 5).encode(), b"U" * 26), "ULID"),
                (headers(node, 1, 9), good.replace(b'"lsn": 5', b'"lsn": 5, "event_time": 1.5'), "event_time"),
                (headers(node, 1, 9), good.replace(b'"lsn": 5', b'"lsn": 5, "severity": 9'), "severity"),
                (headers(node, 1, 9), good.replace(b'"lsn": 5', b'"lsn": 5, "origin": {"lsn": 1}'), "origin"),
                (headers(node, 1, 9, **{"Sluice-Kinds": "metric"}), good, "Sluice-Kinds"),
                (headers(node, 1, 9), good.replace(b"10:00:01.123456Z", b"25:00"), "received_at")]:
            answer = self.server.post("/v1/replicate", body, fields)
            self.assertEqual(answer.status, 422, (fields, body, answer))
            self.assertIn(word, json.dumps(answer.json()["detail"]), (fields, body))
        self.assertEqual(len(self.server.dump_lines()), before)
        self.assertEqual(self.server.get("/v1/replicate").status, 405)

    def test_pipelined_requests_are_answered_in_their_order(self):
        node = NODE_A[:-1] + "N"
        with self.server.connect() as connection:
            requests = []
            for first in (1, 1, 4, 1):
                body = "\n".join(line(node, lsn) for lsn in range(first, first + 5)).encode()
                requests.append(request_bytes("POST", "/v1/replicate", body, headers(node, first, first + 4)))
            requests.insert(2, request_bytes("POST", "/v1/replicate", b"", headers(node, 1, 1)))
            connection.send(b"".join(requests))
            self.assertEqual([counts(connection.response()) for _ in requests],
                             [(5, 0, 0), (0, 5, 0), (0, 0, 0), (3, 2, 0), (0, 5, 0)])


if __name__ == "__main__":
    unittest.main()
