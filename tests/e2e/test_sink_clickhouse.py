"""A sink of type clickhouse against a real clickhouse-server: every record is one row, its bytes kept, over kills and trouble.

Debian's server is 18.16: it knows neither insert_deduplication_token nor async_insert, so the sink's URL takes both away ("?name=") and
the table is a ReplacingMergeTree by the record's id, which keeps each once. On a server of 22.2 or later the token is what is tested.
"""
import json
import os
import sys
import tempfile
import unittest

from harness import ROOT, Server, record, wait_until

sys.path.insert(0, os.path.join(ROOT, "bench", "peers"))
import clickhouse_server  # noqa: E402

COLUMNS = "lsn UInt64, id String, kind String, received_at DateTime, event_time DateTime, severity UInt8, record String"
OLD = f"CREATE TABLE records ({COLUMNS}) ENGINE = ReplacingMergeTree ORDER BY (kind, event_time, id)"
NEW = (f"CREATE TABLE records ({COLUMNS}) ENGINE = MergeTree ORDER BY (kind, event_time, id) "
       "SETTINGS non_replicated_deduplication_window = 1000")
KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "3"))


@unittest.skipUnless(clickhouse_server.BINARY, "clickhouse-server is not installed")
class ClickHouseSink(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="sluice-clickhouse-")
        self.addCleanup(self.directory.cleanup)
        self.peer = clickhouse_server.ClickHouse(self.directory.name)
        self.addCleanup(self.peer.stop)
        version = self.peer.wait_ready()
        self.knows_tokens = tuple(int(part) for part in version.split(".")[:2]) >= (22, 2)

    def create(self):
        self.peer.tell(NEW if self.knows_tokens else OLD)

    def server(self, **more):
        query = "" if self.knows_tokens else "?insert_deduplication_token=&async_insert="
        settings = {"type": "clickhouse", "url": f"http://127.0.0.1:{self.peer.port}/{query}", "database": "default", "table": "records",
                    "linger": "20ms", "batch_records": "100", "pause_retry": "1s", "backoff_min": "50ms", "backoff_max": "200ms", **more}
        arguments = [word for key, value in settings.items() for word in ("--set", f"sink.ch.{key}={value}")]
        return Server(*arguments)

    def delivered(self, server):
        return server.ledger()["sinks"]["ch"]["delivered"]

    def rows(self):
        """As a reader of such a table asks: each id once."""
        final = "" if self.knows_tokens else " FINAL"
        return self.peer.ask(f"SELECT lsn, id, kind, severity, record FROM records{final} ORDER BY lsn")["data"]

    def expect_all(self, server):
        expected = [(line["lsn"], line["id"], line["kind"], line["record"]) for line in server.dump()]
        rows = [(int(row["lsn"]), row["id"], row["kind"], json.loads(row["record"])) for row in self.rows()]
        self.assertEqual(rows, expected)

    def test_every_record_is_one_row_with_its_own_bytes(self):
        self.create()
        texts = [b'{"timestamp":"2025-08-25T10:00:00Z","service":"s","level":"ERROR","message":"%s"%s}' % pair for pair in [
            (b"plain", b""), (b"quote \\\" slash \\\\ \\u0007", b""), ("h\u00e9 \u20ac \U0001f600".encode(), b""),
            (b"lines", b'\n ,\r\n\t"n" :\n 18446744073709551615'), (b"'; DROP TABLE records; --", b"")]]
        with self.server() as server:
            for text in texts:
                self.assertEqual(server.post("/v1/logs", text, {"Content-Type": "application/json"}).status, 202)
            wait_until(lambda: self.delivered(server) == len(texts), 20)
            self.assertEqual([row["record"].encode() for row in self.rows()], texts)
            self.assertEqual({row["severity"] for row in self.rows()}, {5})
            self.expect_all(server)

    def test_a_table_that_is_not_there_pauses_the_sink_and_nothing_is_lost(self):
        with self.server() as server:
            server.post("/v1/logs", [record(n) for n in range(250)])
            wait_until(lambda: server.ledger()["sinks"]["ch"]["state"] == "paused", 20)
            self.assertEqual(self.delivered(server), 0)
            self.assertEqual(server.ledger()["sinks"]["ch"]["quarantined"], 0)
            self.create()
            wait_until(lambda: self.delivered(server) == 250, 20)
            self.expect_all(server)

    def test_kills_of_the_server_leave_each_record_once(self):
        self.create()
        with self.server() as server:
            count = 0
            for _ in range(KILLS):
                server.post("/v1/logs", [record(count + n) for n in range(500)])
                count += 500
                server.kill9()
                server.start()
            wait_until(lambda: self.delivered(server) == count, 30)
            self.expect_all(server)

    def test_the_one_record_that_the_table_cannot_hold_is_quarantined_alone(self):
        self.peer.tell((NEW if self.knows_tokens else OLD).replace("kind String", "kind Enum8('log' = 1)"))
        with self.server() as server:
            server.post("/v1/logs", [record(n) for n in range(7)])
            server.post("/v1/metrics", {"timestamp": "2025-08-25T10:00:00Z", "service": "s", "name": "n", "value": 1})
            server.post("/v1/logs", [record(n) for n in range(12)])
            wait_until(lambda: self.delivered(server) + server.ledger()["sinks"]["ch"]["quarantined"] == 20, 20)
            self.assertEqual(server.ledger()["sinks"]["ch"]["quarantined"], 1)
            self.assertEqual([int(row["lsn"]) for row in self.rows()], [lsn for lsn in range(1, 21) if lsn != 8])


if __name__ == "__main__":
    unittest.main()
