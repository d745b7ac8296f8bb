"""kill -9 of the real server under load, again and again on the same data directory. What was acknowledged is there: once, in order, under
the LSN that the answer named. SLUICE_TEST_KILLS sets how often (CI: 50)."""
import json
import os
import random
import subprocess
import threading
import time
import unittest

from harness import BINARY, SMALL, Connection, Server, encode, record, request_bytes

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "10"))


class Client(threading.Thread):
    """Sends until the server is gone; remembers every answer."""

    def __init__(self, port, name, seed):
        super().__init__(daemon=True)
        self.port, self.client, self.random = port, name, random.Random(seed)
        self.sent, self.acked, self.problems = [], [], []

    def run(self):
        try:
            with Connection(self.port, timeout=20) as connection:
                for number in range(100000):
                    self.step(connection, number)
        except (ConnectionError, TimeoutError, OSError):
            pass
        except AssertionError as problem:
            if "closed inside" not in str(problem):
                self.problems.append(str(problem))

    def step(self, connection, number):
        raise NotImplementedError

    def ask(self, connection, path, body, headers=None):
        connection.send(request_bytes("POST", path, body, headers))
        answer = connection.response()
        if answer is None:
            raise ConnectionError
        if answer.status != 202:
            raise AssertionError(f"{answer}")
        return answer


class Singles(Client):
    def step(self, connection, number):
        body = encode(record(f"{self.client}-{number}"))
        self.sent.append(body)
        answer = self.ask(connection, "/v1/logs", body)
        self.acked.append((body, answer.json()["lsn"]))


class Pipelined(Client):
    def step(self, connection, number):
        bodies = [encode(record(f"{self.client}-{number}-{i}")) for i in range(8)]
        self.sent.extend(bodies)
        connection.send(b"".join(request_bytes("POST", "/v1/logs", body) for body in bodies))
        for body in bodies:
            answer = connection.response()
            if answer is None:
                raise ConnectionError
            self.acked.append((body, answer.json()["lsn"]))


class Batches(Client):
    def step(self, connection, number):
        count = self.random.randint(1, 400)
        bodies = [encode(record(f"{self.client}-{number}-{i}", padding="x" * self.random.randint(0, 300))) for i in range(count)]
        self.sent.extend(bodies)
        answer = self.ask(connection, "/v1/logs", b"\n".join(bodies), {"Content-Type": "application/x-ndjson"}).json()
        self.acked.extend((body, answer["first_lsn"] + i) for i, body in enumerate(bodies))


class Keyed(Client):
    """The same key again and again, across crashes: stored once, answered alike."""

    def step(self, connection, number):
        key = f"{self.client}-{number // 3}"
        body = encode(record(f"keyed {key}"))
        self.sent.append(body)
        answer = self.ask(connection, "/v1/logs", body, {"Idempotency-Key": key})
        self.acked.append((body, answer.json()["lsn"]))


class Events(Client):
    """An event with its own id, sent three times."""

    def step(self, connection, number):
        body = encode({"event_id": f"{self.client}-{number // 3}", "event_type": "info", "source": "e2e", "message": "m",
                       "timestamp": "2025-08-25T10:00:00Z"})
        self.sent.append(body)
        answer = self.ask(connection, "/v1/events", body)
        self.acked.append((body, answer.json()["lsn"]))


class Crash(unittest.TestCase):
    def test_acknowledged_is_there_once_in_order_after_every_kill(self):
        sent, acked, problems = set(), [], []
        with Server() as server:
            for cycle in range(KILLS):
                if server.process.poll() is not None:
                    server.start()
                kinds = [Singles, Singles, Pipelined, Batches, Keyed, Events]
                # Keyed and event clients go on under the same names, so that keys from before the crash come again.
                clients = [kind(server.port, f"{kind.__name__}{i}" if kind in (Keyed, Events) else f"{kind.__name__}{i}.{cycle}", cycle * 10 + i)
                           for i, kind in enumerate(kinds)]
                for client in clients:
                    client.start()
                time.sleep(random.Random(cycle).uniform(0.02, 0.25))
                server.kill9()
                for client in clients:
                    client.join(20)
                    sent.update(client.sent)
                    acked.extend(client.acked)
                    problems.extend(client.problems)
            self.assertEqual(problems, [])
            server.start()
            self.check(server, sent, acked)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(server.verify().returncode, 0, server.verify().stdout)

    def check(self, server, sent, acked):
        lines = server.dump_lines()
        by_lsn = {}
        for expected, line in enumerate(lines, 1):
            entry = json.loads(line)
            self.assertEqual(entry["lsn"], expected, "LSNs are dense")
            by_lsn[expected] = line[line.index(b'"record":') + 9:-1]
        stored = list(by_lsn.values())
        self.assertEqual(len(stored), len(set(stored)), "a record is in the log twice")
        self.assertTrue(set(stored) <= sent, "the log holds what nobody sent")
        self.assertGreater(len(acked), KILLS * 20)
        wrong = [(lsn, body) for body, lsn in acked if by_lsn.get(lsn) != body]
        self.assertEqual(wrong[:3], [], f"{len(wrong)} of {len(acked)} acknowledged records are not where the answer said")
        self.assertTrue(server.ledger()["balanced"])


class Bench(unittest.TestCase):
    def test_the_built_in_check_finds_nothing_missing(self):
        result = subprocess.run([BINARY, "bench", "--kills", str(max(2, KILLS // 2)), "--connections", "32", "--pipeline", "4", "--duration", "1s",
                                 "--", *SMALL], capture_output=True, text=True, timeout=400, cwd=os.environ.get("TMPDIR", "/tmp"))
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn(" 0 missing, 0 duplicated, 0 that nobody sent", result.stdout)


if __name__ == "__main__":
    unittest.main()
