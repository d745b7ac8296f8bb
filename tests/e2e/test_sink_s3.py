#!/usr/bin/env python3
"""The s3 sink against a local server that knows PUT with If-None-Match, signatures recomputed (AWS itself cannot be had here).
Standard library only."""
import hashlib
import os
import re
import subprocess
import tempfile
import unittest

import harness
import test_lambda


class Bucket:
    """Objects by path. A name that is taken answers 412, as S3 does for If-None-Match: *."""

    def __init__(self):
        self.objects, self.ranges, self.script, self.faults, self.repeats = {}, {}, [], [], 0
        outer = self

        class Api(test_lambda.Handler):
            def do_PUT(self):
                body = self.body()
                if not test_lambda.signed_as(self, body, "s3"):
                    outer.faults.append(("signature", dict(self.headers)))
                if self.headers.get("If-None-Match") != "*":
                    outer.faults.append(("condition", dict(self.headers)))
                if self.headers.get("x-amz-content-sha256") not in (hashlib.sha256(body).hexdigest(), "UNSIGNED-PAYLOAD"):
                    outer.faults.append(("digest", dict(self.headers)))
                fault = outer.script.pop(0) if outer.script else None
                if isinstance(fault, int):
                    return self.answer(fault, b"<Error><Code>SlowDown</Code></Error>")
                if self.path in outer.objects:
                    outer.repeats += 1
                    if outer.objects[self.path] != body:
                        outer.faults.append(("other bytes", self.path))
                    return self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                outer.objects[self.path] = body
                outer.ranges[self.path] = tuple(int(lsn) for lsn in self.headers["x-amz-meta-sluice-lsn"].split("-"))
                if fault == "lost":
                    self.close_connection = True
                    return None
                return self.answer(200)

        self.server = test_lambda.serve(Api)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/bucket"


class SinkS3(unittest.TestCase):
    def test_every_sealed_segment_is_an_object_once_and_reads_back(self):
        bucket = Bucket()
        self.addCleanup(bucket.server.server_close)
        self.addCleanup(bucket.server.shutdown)
        bucket.script += [503, "lost", 409]
        settings = ["type=s3", f"url={bucket.url}", "prefix=raw data/", f"aws_region={test_lambda.REGION}", "backoff_min=20ms", "backoff_max=100ms"]
        arguments = [word for setting in settings for word in ("--set", "sink.lake." + setting)]
        environment = {"AWS_ACCESS_KEY_ID": test_lambda.KEY_ID, "AWS_SECRET_ACCESS_KEY": test_lambda.SECRET,
                       "AWS_SESSION_TOKEN": test_lambda.TOKEN}
        with harness.Server(*arguments, "--set", "store.segment_age=1s", environment=environment) as server:
            for at in range(3):
                self.assertEqual(server.post("/v1/logs", [harness.record(at * 100 + i) for i in range(100)]).status, 202)
                harness.wait_until(lambda at=at: len(bucket.objects) > at, 60, 0.2)
            server.kill9()
            server.start()
            harness.wait_until(lambda: sum(last - first + 1 for first, last in bucket.ranges.values()) >= 300, 60, 0.2)
            server.stop_clean()
        self.assertEqual(bucket.faults, [])
        self.assertGreaterEqual(bucket.repeats, 1)  # the lost answer
        ranges = sorted(bucket.ranges.values())
        self.assertEqual(ranges[0][0], 1)
        for (_, last), (first, _) in zip(ranges, ranges[1:]):
            self.assertEqual(first, last + 1)
        self.read_back(bucket)

    def test_a_restored_server_takes_no_name_that_its_original_has_given(self):
        bucket = Bucket()
        self.addCleanup(bucket.server.server_close)
        self.addCleanup(bucket.server.shutdown)
        settings = ["type=s3", f"url={bucket.url}", f"aws_region={test_lambda.REGION}", "backoff_min=20ms", "backoff_max=100ms"]
        arguments = [word for setting in settings for word in ("--set", "sink.lake." + setting)] + ["--set", "store.segment_age=1s"]
        environment = {"AWS_ACCESS_KEY_ID": test_lambda.KEY_ID, "AWS_SECRET_ACCESS_KEY": test_lambda.SECRET,
                       "AWS_SESSION_TOKEN": test_lambda.TOKEN}

        def write(server, first):
            self.assertEqual(server.post("/v1/logs", [harness.record(first + i) for i in range(100)]).status, 202)
            harness.wait_until(lambda: self.count_of(bucket, first) == 100, 60, 0.2)

        with harness.Server(*arguments, environment=environment) as server:
            write(server, 0)
            backup, target = os.path.join(server.base, "backup"), os.path.join(server.base, "restored")
            for command in (["backup", "--data-dir", server.data_dir, "--to", backup], ["restore", "--from", backup, "--data-dir", target]):
                self.assertEqual(subprocess.run([harness.BINARY, *command], capture_output=True, timeout=60).returncode, 0)
            write(server, 1000)
            server.stop_clean()
            with harness.Server(*arguments, data_dir=target, environment=environment) as again:
                write(again, 2000)
        self.assertEqual(bucket.faults, [])
        names = {path.split("/")[2] for path in bucket.objects}
        self.assertEqual(len(names), 2)
        for first in (0, 1000, 2000):
            self.assertEqual(self.count_of(bucket, first), 100)

    def test_the_original_of_a_restored_log_may_go_on_in_the_segment_that_both_had(self):
        bucket = Bucket()
        self.addCleanup(bucket.server.server_close)
        self.addCleanup(bucket.server.shutdown)
        settings = ["type=s3", f"url={bucket.url}", f"aws_region={test_lambda.REGION}", "backoff_min=20ms", "backoff_max=100ms"]
        arguments = [word for setting in settings for word in ("--set", "sink.lake." + setting)]
        seals = [*arguments, "--set", "store.segment_age=1s"]
        environment = {"AWS_ACCESS_KEY_ID": test_lambda.KEY_ID, "AWS_SECRET_ACCESS_KEY": test_lambda.SECRET,
                       "AWS_SESSION_TOKEN": test_lambda.TOKEN}
        with harness.Server(*arguments, environment=environment) as server:
            self.assertEqual(server.post("/v1/logs", [harness.record(i) for i in range(100)]).status, 202)
            backup, target = os.path.join(server.base, "backup"), os.path.join(server.base, "restored")
            for command in (["backup", "--data-dir", server.data_dir, "--to", backup], ["restore", "--from", backup, "--data-dir", target]):
                self.assertEqual(subprocess.run([harness.BINARY, *command], capture_output=True, timeout=60).returncode, 0)
            with harness.Server(*seals, data_dir=target, environment=environment):
                harness.wait_until(lambda: self.count_of(bucket, 0) == 100, 60, 0.2)
            self.assertEqual(server.post("/v1/logs", [harness.record(1000 + i) for i in range(100)]).status, 202)
            server.stop_clean()
            server.arguments = seals
            server.start()
            harness.wait_until(lambda: server.ledger()["sinks"]["lake"]["delivered"] == 200, 60, 0.2)
        self.assertEqual(bucket.faults, [])
        self.assertEqual(self.count_of(bucket, 1000), 100)

    def count_of(self, bucket, first):
        """How many of the records first.. the bucket has, whoever wrote them; each directory is read alone."""
        found = set()
        for name in {path.split("/")[2] for path in bucket.objects}:
            with tempfile.TemporaryDirectory(prefix="sluice-s3-") as base:
                os.makedirs(os.path.join(base, "log"))
                for path, body in bucket.objects.items():
                    if path.split("/")[2] == name:
                        with open(os.path.join(base, "log", path.split("/")[-1]), "wb") as file:
                            file.write(body)
                result = subprocess.run([harness.BINARY, "dump", "--data-dir", base], capture_output=True, timeout=60)
                found |= {int(number) for number in re.findall(rb'"correlation_id":"n-(\d+)"', result.stdout)}
        return sum(first <= number < first + 100 for number in found)

    def read_back(self, bucket):
        """What lies below the node's name is a data directory."""
        with tempfile.TemporaryDirectory(prefix="sluice-s3-") as base:
            for path, body in bucket.objects.items():
                match = re.fullmatch(r"/bucket/raw%20data/[0-9A-Z]{26}/(log/[0-9a-f]{16}\.(?:slc|seg))", path)
                self.assertTrue(match, path)
                os.makedirs(os.path.join(base, "log"), exist_ok=True)
                with open(os.path.join(base, match.group(1)), "wb") as file:
                    file.write(body)
            result = subprocess.run([harness.BINARY, "dump", "--data-dir", base], capture_output=True, timeout=60)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(sum(line.count(b'"correlation_id":"n-') for line in result.stdout.splitlines()), 300)


if __name__ == "__main__":
    unittest.main(verbosity=2)
