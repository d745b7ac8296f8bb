"""Ten minutes of everything at once: ingest, queries, streams, tails that come and go, sealing, compaction, retention. Memory and descriptors
must not grow, the ledger must balance, what is left must verify. Nightly: python3 soak.py [SECONDS]."""
import http.client
import json
import os
import random
import sys
import threading
import time

from harness import Server, record, wait_until
from ws_client import WebSocket

SETTINGS = ["--set", "store.segment_bytes=8M", "--set", "server.max_body=2M", "--set", "store.reserve_bytes=1M", "--set", "store.retention_bytes=96M",
            "--set", "store.compact_rate=0", "--set", "store.batch_bytes=1M", "--set", "store.segment_age=2s"]


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


class Load:
    def __init__(self, server, seconds):
        self.server, self.end, self.faults, self.counts = server, time.monotonic() + seconds, [], {}
        self.threads = [threading.Thread(target=self.run, args=(work,)) for work in (self.post, self.post, self.ask, self.stream, self.tail)]

    def run(self, work):
        try:
            while time.monotonic() < self.end:
                work()
                self.counts[work.__name__] = self.counts.get(work.__name__, 0) + 1
        except Exception as error:  # told by the main thread
            self.faults.append(f"{work.__name__}: {error!r}")

    def post(self):
        client = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        for _ in range(20):
            batch = [record(random.randrange(10**9), service=f"s{random.randrange(20)}", level=random.choice(["INFO", "ERROR"]),
                            padding=os.urandom(40).hex()) for _ in range(200)]
            client.request("POST", "/v1/logs", "\n".join(map(json.dumps, batch)), {"Content-Type": "application/x-ndjson"})
            answer = client.getresponse()
            answer.read()
            assert answer.status in (202, 429), answer.status
        client.close()

    def ask(self):
        client = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        for query in ("limit=100", "level=error&limit=1000", f"service=s{random.randrange(20)}&start=now-30s", "q=nothing%20has%20this", "order=asc&limit=5"):
            client.request("GET", "/v1/logs?" + query)
            answer = client.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
        client.close()

    def stream(self):
        """Read a part, then leave without a word."""
        client = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        client.request("GET", "/v1/logs", headers={"Accept": "application/x-ndjson"})
        client.getresponse().read(random.randrange(1, 4 << 20))
        client.close()

    def tail(self):
        client = WebSocket(self.server, "/v1/tail?level=error", timeout=30)
        for _ in range(random.randrange(1, 200)):
            client.message()
        client.close()


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    with Server(*SETTINGS, small=False) as server:
        load, samples = Load(server, seconds), []
        for thread in load.threads:
            thread.start()
        while time.monotonic() < load.end:
            time.sleep(min(2, seconds / 30))
            samples.append((server.resident_bytes() >> 20, descriptors(server)))
            assert server.process.poll() is None, server.log_text()
        for thread in load.threads:
            thread.join()
        assert not load.faults, load.faults
        wait_until(lambda: server.ledger()["balanced"], 10)
        time.sleep(2)
        third = len(samples) // 3
        early, late = samples[third:2 * third], samples[2 * third:]
        for name, at, slack in (("RSS in MiB", 0, 24), ("descriptors", 1, 12)):
            before, after = max(s[at] for s in early), max(s[at] for s in late)
            print(f"{name}: at most {before} in the second third, {after} in the last")
            assert after <= before + slack, f"{name} grows: {[s[at] for s in samples]}"
        print(f"turns {load.counts}")
        server.stop_clean()
        done = server.verify()
        print(done.stdout.decode().strip())
        assert done.returncode == 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
