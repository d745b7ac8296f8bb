#!/usr/bin/env python3
"""The timestream sink against a local server that speaks as WriteRecords does, signatures recomputed (AWS itself cannot be had
here). Standard library only."""
import unittest

import harness
import test_lambda


class SinkTimestream(unittest.TestCase):
    def test_every_metric_is_there_once_whatever_failed_on_the_way(self):
        timestream = test_lambda.Timestream()
        self.addCleanup(timestream.server.server_close)
        self.addCleanup(timestream.server.shutdown)
        timestream.script += [(400, "ThrottlingException"), None, (500, "InternalServerException"), (400, "ThrottlingException")]
        settings = ["type=timestream", f"url={timestream.url}", "database=telemetry", "table=metrics",
                    f"aws_region={test_lambda.REGION}", "backoff_min=20ms", "backoff_max=100ms"]
        arguments = [word for setting in settings for word in ("--set", "sink.ts." + setting)]
        environment = {"AWS_ACCESS_KEY_ID": test_lambda.KEY_ID, "AWS_SECRET_ACCESS_KEY": test_lambda.SECRET,
                       "AWS_SESSION_TOKEN": test_lambda.TOKEN}
        metrics = [test_lambda.metric("m", i, n=str(i)) for i in range(250)]
        metrics += [test_lambda.metric("same", 1), test_lambda.metric("same", 2), test_lambda.metric("too.old"), test_lambda.metric("x" * 300)]
        with harness.Server(*arguments, environment=environment) as server:
            for at in range(0, len(metrics), 64):
                self.assertEqual(server.post("/v1/metrics", metrics[at:at + 64]).status, 202)
            server.kill9()
            server.start()
            harness.wait_until(lambda: len(timestream.records) >= 251, 30, 0.1)
            refused = harness.wait_until(lambda: (q := server.get("/v1/quarantine").json()["data"]) and len(q) >= 2 and q, 30, 0.1)
            server.stop_clean()
        self.assertEqual(len(timestream.records), 251)
        self.assertIn(timestream.writes, (251, 252))  # of "same" the second is newer; when it came first, the first was done already
        self.assertEqual([stored[1] for key, stored in timestream.records.items() if key[1] == "same"], ["2"])
        self.assertEqual(timestream.unsigned, 0)
        self.assertEqual(sorted(item["reason"].split()[0] for item in refused), ["outside", "the"], refused)


if __name__ == "__main__":
    unittest.main(verbosity=2)
