"""Too much of everything: the server refuses with 429 or 503 and Retry-After, never with 500, never by losing what it acknowledged, and
comes back by itself. Memory stays within its bounds."""
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BINARY, Server, encode, record, request_bytes, wait_until

MIB = 1024 * 1024
# Sanitizers keep shadow memory: what a release build holds says nothing about them.
SANITIZED = b"__asan_init" in open(BINARY, "rb").read() if os.path.exists(BINARY) else False


def raw_record(line):
    return line[line.index(b'"record":') + 9:-1]


class Posting(threading.Thread):
    """Posts batches until told to stop; remembers what was acknowledged and how it was refused."""

    def __init__(self, server, name, records=20, padding=0, pipeline=1):
        super().__init__(daemon=True)
        self.server, self.client, self.records, self.padding, self.pipeline = server, name, records, padding, pipeline
        self.done = threading.Event()
        self.acked, self.refused, self.problems = [], [], []

    def bodies(self, number):
        return [encode(record(f"{self.client}-{number}-{i}", padding="x" * self.padding)) for i in range(self.records)]

    def run(self):
        number = 0
        while not self.done.is_set():
            try:
                with self.server.connect(20) as connection:
                    while not self.done.is_set():
                        batches = [self.bodies(number + i) for i in range(self.pipeline)]
                        number += self.pipeline
                        connection.send(b"".join(request_bytes("POST", "/v1/logs", b"[" + b",".join(batch) + b"]") for batch in batches))
                        for batch in batches:
                            answer = connection.response()
                            if answer is None:
                                raise ConnectionError
                            self.take(batch, answer)
            except (ConnectionError, TimeoutError, OSError):
                time.sleep(0.01)
            except AssertionError as problem:
                self.problems.append(str(problem))

    def take(self, batch, answer):
        if answer.status == 202:
            self.acked.extend(zip(range(answer.json()["first_lsn"], answer.json()["last_lsn"] + 1), batch))
            return
        self.refused.append(answer)
        if answer.status not in (429, 503) or not answer.headers.get("retry-after", "").isdigit() or "detail" not in answer.json():
            self.problems.append(f"refused badly: {answer}")
        elif not 1 <= int(answer.headers["retry-after"]) <= 3600:
            self.problems.append(f"nobody waits so long or not at all: {answer}")
        self.done.wait(0.01)


class Base(unittest.TestCase):
    def run_clients(self, clients, seconds=None, until=None):
        for client in clients:
            client.start()
        if until:
            wait_until(until, 30)
        else:
            time.sleep(seconds)

    def finish(self, clients):
        for client in clients:
            client.done.set()
        for client in clients:
            client.join(30)
        for client in clients:
            self.assertEqual(client.problems[:3], [])

    def check_log(self, server, clients, has_retention=False):
        """What was acknowledged is where the answer said; nothing else is there. Retention removes from the front only."""
        stored = {}
        for line in server.dump_lines():
            stored[json.loads(line)["lsn"]] = raw_record(line)
        first = min(stored) if has_retention else 1
        acked = {lsn: body for client in clients for lsn, body in client.acked if lsn >= first}
        self.assertEqual([lsn for lsn, body in acked.items() if stored.get(lsn) != body][:5], [], "acknowledged and not there")
        self.assertEqual(len(stored), len(acked), "stored, yet refused")
        self.assertEqual(sorted(stored), list(range(first, first + len(stored))))


class Throttle(Base):
    def test_a_deep_queue_throttles_and_says_when_to_come_back(self):
        with Server("--set", "throttle.enabled=true", "--set", "throttle.max_queue_depth=2", "--set", "throttle.rate=0.01") as server:
            clients = [Posting(server, f"c{i}", records=50, pipeline=16) for i in range(16)]
            self.run_clients(clients, until=lambda: sum(len(client.refused) for client in clients) > 50 and sum(len(client.acked) for client in clients) > 500)
            self.finish(clients)
            self.assertEqual({answer.status for client in clients for answer in client.refused}, {429})
            self.check_log(server, clients)
            ledger = server.ledger()
            self.assertTrue(ledger["balanced"], ledger)
            # A body that was refused unread has no records to count; the request is counted, by its cause.
            self.assertEqual(ledger["requests"]["shed"]["throttled"], sum(len(client.refused) for client in clients))
            self.assertEqual(sum(ledger["requests"]["shed"].values()), sum(len(client.refused) for client in clients))
            self.assertEqual(server.get("/healthcheck").status, 200)
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202, "a quiet server lets everybody in")

    def test_a_quiet_queue_throttles_nobody(self):
        with Server("--set", "throttle.enabled=true") as server:
            with server.connect() as connection:
                for number in range(300):
                    connection.send(request_bytes("POST", "/v1/logs", encode(record(number))))
                    self.assertEqual(connection.response().status, 202)


class Retention(Base):
    def test_a_small_log_sheds_or_forgets_but_stays_small(self):
        """64 MiB are offered to a log that may hold 24: whatever the policy, the disk use is bounded and each answer is honest."""
        with Server("--set", "store.retention_bytes=24M") as server:
            clients = [Posting(server, f"c{i}", records=100, padding=8000) for i in range(4)]
            offered = 0
            largest = 0
            for client in clients:
                client.start()
            end = time.monotonic() + 15
            while time.monotonic() < end and offered < 64 * MIB:
                offered = sum(len(client.acked) + 100 * len(client.refused) for client in clients) * 8200
                largest = max(largest, self.disk_use(server.data_dir))
                time.sleep(0.02)
            self.finish(clients)
            # Shed is what goes past the limit by a spare and two segments; then what was in the rings; the reserve.
            self.assertLess(largest, (24 + 3 * 8 + 8 + 8 + 2) * MIB)
            refused = [answer for client in clients for answer in client.refused]
            self.assertLessEqual({answer.status for answer in refused}, {429})
            ledger = server.ledger()
            self.assertTrue(ledger["balanced"], ledger)
            self.assertEqual(sum(ledger["requests"]["shed"].values()), len(refused))
            self.assertEqual(server.stop(), 0)  # so that nothing leaves while we look
            self.check_log(server, clients, has_retention=True)
            self.assertEqual(server.verify().returncode, 0)

    def disk_use(self, folder):
        total = 0
        for here, _, names in os.walk(folder):
            for name in names:
                try:
                    total += os.stat(os.path.join(here, name)).st_blocks * 512
                except FileNotFoundError:
                    pass
        return total


class SmallDisk(Base):
    """A file system of 64 MiB that somebody else fills."""

    @classmethod
    def setUpClass(cls):
        cls.base = tempfile.mkdtemp(prefix="sluice-e2e-")
        cls.mount = os.path.join(cls.base, "mnt")
        os.mkdir(cls.mount)
        image = os.path.join(cls.base, "image")
        with open(image, "wb") as file:
            file.truncate(64 * MIB)
        for command in (["mkfs.ext4", "-q", "-F", "-m", "0", image], ["mount", "-o", "loop", image, cls.mount]):
            if shutil.which(command[0]) is None:
                cls.drop()
                raise unittest.SkipTest(f"{command[0]} is not installed")
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                cls.drop()
                raise unittest.SkipTest(f"no loop mount here: {result.stderr.strip()}")

    @classmethod
    def tearDownClass(cls):
        cls.drop()

    @classmethod
    def drop(cls):
        subprocess.run(["umount", cls.mount], capture_output=True)
        shutil.rmtree(cls.base, ignore_errors=True)

    def fill(self, leave=0):
        """A neighbour takes all the space that is left."""
        path = os.path.join(self.mount, "filler")
        with open(path, "wb", buffering=0) as file:
            try:
                free = os.statvfs(self.mount)
                while free.f_bavail * free.f_frsize > leave:
                    file.write(b"\xaa" * min(MIB, max(4096, free.f_bavail * free.f_frsize - leave)))
                    free = os.statvfs(self.mount)
            except OSError:
                pass
        return path

    def test_a_full_disk_refuses_loses_nothing_and_comes_back(self):
        data = os.path.join(self.mount, "full")
        with Server("--set", "store.reserve_bytes=2M", data_dir=data) as server:
            clients = [Posting(server, f"c{i}", records=20, padding=2000) for i in range(4)]
            self.run_clients(clients, until=lambda: sum(len(client.acked) for client in clients) > 200)
            filler = self.fill()
            wait_until(lambda: sum(len(client.refused) for client in clients) > 20, 40)
            time.sleep(0.5)
            refused = [answer for client in clients for answer in client.refused]
            self.assertLessEqual({answer.status for answer in refused}, {429, 503})
            # Reads go on, and health says why writes do not.
            self.assertGreater(len(server.dump_lines()), 200)
            self.assertTrue(server.ledger()["balanced"])
            health = server.get("/healthcheck")
            state = [line for line in server.get("/metrics").body.decode().splitlines() if line.startswith("sluice_store_state ")]
            if health.status != 200:
                self.assertEqual((health.status, health.json()["status"]), (503, "unavailable"))
                self.assertTrue(health.json()["reason"])
            self.assertIsNone(server.process.poll())
            os.unlink(filler)
            before = sum(len(client.acked) for client in clients)
            wait_until(lambda: sum(len(client.acked) for client in clients) > before + 100, 20)
            wait_until(lambda: server.get("/healthcheck").status == 200, 10)
            self.finish(clients)
            self.check_log(server, clients)
            self.assertTrue(server.ledger()["balanced"])
            self.assertNotEqual(state, ["sluice_store_state 0"], "full, and the metrics said ok")
            self.assertEqual(health.status, 503, "the process could not write to its log and /healthcheck said 200")
            self.assertEqual(server.stop(), 0)
            self.assertEqual(server.verify().returncode, 0)
        shutil.rmtree(data)

    def test_an_orderly_stop_and_a_start_work_on_a_full_disk(self):
        data = os.path.join(self.mount, "stop")
        with Server("--set", "store.reserve_bytes=2M", data_dir=data) as server:
            clients = [Posting(server, f"c{i}", records=20, padding=2000) for i in range(2)]
            self.run_clients(clients, until=lambda: sum(len(client.acked) for client in clients) > 100)
            filler = self.fill()
            wait_until(lambda: sum(len(client.refused) for client in clients) > 20, 40)
            self.finish(clients)
            self.assertEqual(server.stop(), 0)
            self.check_log(server, clients)
            self.assertEqual(server.verify().returncode, 0)
            os.unlink(filler)
            server.start()
            self.check_log(server, clients)
            wait_until(lambda: server.post("/v1/logs", record(1)).status == 202)
        shutil.rmtree(data)

    def test_kill_9_on_a_full_disk_loses_nothing(self):
        data = os.path.join(self.mount, "kill")
        with Server("--set", "store.reserve_bytes=2M", data_dir=data) as server:
            clients = [Posting(server, f"c{i}", records=20, padding=2000) for i in range(2)]
            self.run_clients(clients, until=lambda: sum(len(client.acked) for client in clients) > 100)
            filler = self.fill()
            wait_until(lambda: sum(len(client.refused) for client in clients) > 20, 40)
            self.finish(clients)
            server.kill9()
            try:
                server.start()
                self.check_log(server, clients)
                self.assertIn(server.post("/v1/logs", record("after")).status, (202, 429, 503))
                server.kill9()
            except AssertionError:
                if server.process.poll() is None:
                    raise
                self.assertRegex(server.log_text(), "(?i)space", "refused to start without saying why")
            os.unlink(filler)
            server.start()
            acked = {lsn: body for client in clients for lsn, body in client.acked}
            stored = {json.loads(line)["lsn"]: raw_record(line) for line in server.dump_lines()}
            self.assertEqual([lsn for lsn, body in acked.items() if stored.get(lsn) != body], [])
            wait_until(lambda: server.post("/v1/logs", record(1)).status == 202)
        shutil.rmtree(data)


class StuckWriter(Base):
    def test_a_stopped_process_comes_back_with_everything(self):
        """Stands for a disk or a host that hangs for a while: clients wait, nothing is answered that is not durable."""
        with Server() as server:
            clients = [Posting(server, f"c{i}") for i in range(4)]
            self.run_clients(clients, until=lambda: sum(len(client.acked) for client in clients) > 200)
            for _ in range(3):
                server.process.send_signal(signal.SIGSTOP)
                time.sleep(0.3)
                server.process.send_signal(signal.SIGCONT)
                time.sleep(0.2)
            self.finish(clients)
            self.check_log(server, clients)
            self.assertEqual(server.get("/healthcheck").status, 200)


@unittest.skipIf(SANITIZED, "memory of a sanitizer build says nothing")
class Memory(Base):
    def test_at_rest_below_64_mib(self):
        with Server(small=False) as server:
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
            time.sleep(0.5)
            self.assertLess(server.resident_bytes() / MIB, 64)

    def test_1000_connections_posting_below_256_mib(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2000:
            self.skipTest(f"only {hard} open files allowed here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
        with Server(small=False) as server:
            connections = [server.connect(20) for _ in range(1000)]
            body = b"[" + b",".join(encode(record(i, padding="x" * 300)) for i in range(20)) + b"]"
            wire = request_bytes("POST", "/v1/logs", body)
            statuses, largest = {}, 0
            for _ in range(4):
                # All are in the middle of a request at the same time.
                for connection in connections:
                    connection.send(wire[:-100])
                largest = max(largest, server.resident_bytes())
                for connection in connections:
                    connection.send(wire[-100:])
                for connection in connections:
                    status = connection.response().status
                    statuses[status] = statuses.get(status, 0) + 1
                largest = max(largest, server.resident_bytes())
            for connection in connections:
                connection.close()
            self.assertLess(largest / MIB, 256)
            # 8 MB that arrive at one moment may find the queue full, which is an answer; most of them find room.
            self.assertLessEqual(set(statuses), {202, 429})
            self.assertGreater(statuses[202], 2000)
            self.assertEqual(server.get("/v1/durable?lsn=0").json()["durable_lsn"], 20 * statuses[202])
            self.assertTrue(server.ledger()["balanced"])

    def flood(self, server, wire, count=40, seconds=4):
        """Clients that send all they can and read nothing."""
        before, largest = server.resident_bytes(), 0
        sockets = []
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.setblocking(False)
            sockets.append(client)
        open_sockets, at, sent = set(sockets), dict.fromkeys(sockets, 0), 0
        end = time.monotonic() + seconds
        quiet_since = time.monotonic()
        while time.monotonic() < end and open_sockets and time.monotonic() - quiet_since < 1:
            for client in select.select([], list(open_sockets), [], 0.05)[1]:
                try:
                    n = client.send(wire[at[client]:])
                    at[client] = (at[client] + n) % len(wire)
                    sent += n
                    quiet_since = time.monotonic()
                except BlockingIOError:
                    pass
                except OSError:
                    open_sockets.discard(client)
            largest = max(largest, server.resident_bytes())
        start = time.monotonic()
        self.assertEqual(server.post("/v1/logs", record("healthy")).status, 202)
        self.assertEqual(server.get("/healthcheck").status, 200)
        self.assertLess(time.monotonic() - start, 2, "those who do not read hold up those who do")
        for client in sockets:
            client.close()
        return (largest - before) / MIB, sent

    def test_who_does_not_read_does_not_grow_memory(self):
        for name, wire in (("large answers", request_bytes("GET", "/metrics") * 50), ("small answers", request_bytes("POST", "/v1/logs", encode(record(1))) * 200)):
            with self.subTest(name), Server(small=False) as server:
                grown, sent = self.flood(server, wire)
                self.assertGreater(sent, 100_000)
                self.assertLess(grown, 128)

    def test_who_never_ends_a_request_does_not_grow_memory(self):
        """Heads and bodies that stay half done on many connections: bounded by the buffers, and 503 or closing beyond."""
        with Server(small=False) as server:
            before = server.resident_bytes()
            connections = []
            for _ in range(200):
                connection = server.connect(20)
                connections.append(connection)
                try:
                    connection.send(b"POST /v1/logs HTTP/1.1\r\nHost: t\r\nContent-Length: 10000000\r\n\r\n")
                except OSError:
                    pass
            piece = b" " * 65536
            for _ in range(16):
                for connection in connections:
                    connection.socket.setblocking(False)
                    try:
                        connection.socket.send(piece)
                    except OSError:
                        pass
            time.sleep(0.3)
            grown = server.resident_bytes() - before
            self.assertLess(grown / MIB, 192)
            with server.connect() as connection:
                connection.send(request_bytes("GET", "/healthcheck"))
                self.assertEqual(connection.response().status, 200)
            answer = server.post("/v1/logs", record(1))
            self.assertIn(answer.status, (202, 429, 503))
            if answer.status != 202:
                self.assertIn("retry-after", answer.headers)
            for connection in connections:
                connection.close()
            wait_until(lambda: server.post("/v1/logs", record(2)).status == 202)


if __name__ == "__main__":
    unittest.main()
