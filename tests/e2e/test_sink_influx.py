#!/usr/bin/env python3
"""The influx sink against the real VictoriaMetrics (Debian's victoria-metrics): every metric arrives once, with its name, labels
and value, also when server and upstream were down in between. Standard library only."""
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request

import harness

VICTORIA = shutil.which("victoria-metrics")
SEED = int(os.environ.get("SEED", "20261121"))
# What delimits, what needs escapes in JSON, what is no ASCII. A backslash only where the line protocol can say one.
PIECES = ["a", "Z", "9", " ", ",", "=", '"', "'", "\u00e9", "\u20ac", "\U0001f600", "{", "}", "\\x", "%", "&", "/", ".", "-", "_"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Victoria:
    def __init__(self):
        self.directory, self.port, self.process = tempfile.mkdtemp(prefix="sluice-vm-"), free_port(), None
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen([VICTORIA, f"-storageDataPath={self.directory}/data", f"-httpListenAddr=127.0.0.1:{self.port}",
                                         "-retentionPeriod=100y", "-loggerLevel=ERROR"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_until(self.is_up, 30, 0.1)
        return self

    def is_up(self):
        try:
            return urllib.request.urlopen(self.url + "/health", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def samples(self):
        """{(name, labels): [(ms, value)]} of all there is."""
        urllib.request.urlopen(self.url + "/internal/force_flush", timeout=10).read()
        text = urllib.request.urlopen(self.url + "/api/v1/export?" + urllib.parse.urlencode({"match[]": '{__name__!=""}'}), timeout=30).read()
        found = {}
        for line in text.decode().splitlines():
            series = json.loads(line)
            labels = dict(series["metric"])
            name = labels.pop("__name__")
            found[(name, tuple(sorted(labels.items())))] = list(zip(series["timestamps"], series["values"]))
        return found

    def close(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def text(source, first=""):
    """A text that the line protocol can say, and that does not end in white space (VictoriaMetrics keeps it, people do not)."""
    return first + "".join(source.choice(PIECES) for _ in range(source.randrange(1, 8))) + "z"


def metrics(source, count):
    """Records with distinct times, and what VictoriaMetrics shows of them."""
    records, expected = [], {}
    for number in range(count):
        name, tags = text(source, "m"), {text(source, "t"): text(source) for _ in range(source.randrange(4))}
        value = source.choice([0, -1, 1.5, 123456, 0.25, -7.125])  # VictoriaMetrics keeps a series to about 15 digits in all
        records.append({"timestamp": f"2026-11-20T10:{number // 60 % 60:02d}:{number % 60:02d}.{number // 3600:03d}Z", "service": "e 2,e",
                        "name": name, "value": value, "unit": "ms", "tags": tags})
        labels = {**tags, "service": "e 2,e", "unit": "ms", "db": "tele metry"}
        expected.setdefault((name + "_value", tuple(sorted(labels.items()))), []).append(value)
    return records, expected


@unittest.skipUnless(VICTORIA, "victoria-metrics is not installed (Debian: apt install victoria-metrics)")
class SinkInflux(unittest.TestCase):
    def arguments(self, victoria):
        return ["--set", "sink.vm.type=influx", "--set", f"sink.vm.url={victoria.url}", "--set", "sink.vm.database=tele metry",
                "--set", "sink.vm.backoff_min=50ms", "--set", "sink.vm.backoff_max=500ms"]

    def check(self, victoria, expected):
        found = victoria.samples()
        self.assertEqual(set(found), set(expected))
        for series, values in expected.items():
            self.assertEqual(sorted(value for _, value in found[series]), sorted(values), series)

    def await_count(self, victoria, count):
        harness.wait_until(lambda: sum(len(samples) for samples in victoria.samples().values()) >= count, 60, 0.5)

    def test_every_metric_arrives_once_as_it_was(self):
        source = random.Random(SEED)
        victoria = Victoria().start()
        self.addCleanup(victoria.close)
        records, expected = metrics(source, 500)
        with harness.Server(*self.arguments(victoria)) as server:
            for at in range(0, len(records), 50):
                self.assertEqual(server.post("/v1/metrics", records[at:at + 50]).status, 202)
            self.await_count(victoria, len(records))
            server.stop_clean()
        self.check(victoria, expected)

    def test_what_came_while_both_were_down_arrives_once(self):
        source = random.Random(SEED + 1)
        victoria = Victoria()
        records, expected = metrics(source, 200)
        with harness.Server(*self.arguments(victoria)) as server:
            self.assertEqual(server.post("/v1/metrics", records[:100]).status, 202)
            server.kill9()
            server.start()
            self.assertEqual(server.post("/v1/metrics", records[100:]).status, 202)
            victoria.start()
            self.addCleanup(victoria.close)
            self.await_count(victoria, len(records))
            server.stop_clean()
        self.check(victoria, expected)

    def test_a_metric_that_cannot_be_said_goes_to_quarantine_and_holds_up_nobody(self):
        victoria = Victoria().start()
        self.addCleanup(victoria.close)
        good = {"timestamp": "2026-11-20T10:00:00Z", "service": "s", "name": "good", "value": 1}
        with harness.Server(*self.arguments(victoria)) as server:
            self.assertEqual(server.post("/v1/metrics", [{**good, "name": "#comment"}, good, {**good, "tags": {"path": "C:\\"}}]).status, 202)
            self.await_count(victoria, 1)
            harness.wait_until(lambda: len(server.get("/v1/quarantine").json()["data"]) == 2, 20, 0.2)
            server.stop_clean()
        self.assertEqual([name for name, _ in victoria.samples()], ["good_value"])


if __name__ == "__main__":
    print(f"SEED={SEED}")
    unittest.main(verbosity=2)
