"""`sluice quarantine` beside a running server and without one: what an upstream refused is listed, shown, delivered when the upstream was mended, or
given up, and the ledger says so."""
import json
import os
import subprocess
import unittest

from harness import BINARY, Server, wait_until
from test_forward import PATIENCE, Watched, sink
from upstream import Oracle, Upstream, poison

MENDED = poison(b"nothing has this")


def quarantine(server, *words, url=True, code=0):
    """The lines that it prints as JSON; with a code other than 0, what it says."""
    address = ["--url", f"http://127.0.0.1:{server.port}"] if url is True else ["--url", url] if url else []
    result = subprocess.run([BINARY, "quarantine", *words, "--data-dir", server.data_dir, "--json", *address], capture_output=True, timeout=60,
                            env=server.environment)
    assert result.returncode == code, f"exit code {result.returncode}: {result.stdout.decode()}{result.stderr.decode()}"
    return [json.loads(line) for line in result.stdout.splitlines()] if code == 0 else result.stderr.decode()


class Quarantine(unittest.TestCase):
    def poisoned(self, server, up, count=4):
        """Good records and bad ones; returns their LSNs."""
        good = server.send(60)
        bad = [lsn for i in range(count) for lsn in server.send(1, text=f"poison-marker {i}")]
        good += server.send(40)
        try:
            wait_until(lambda: server.sink()["quarantined"] == count and server.sink()["pending"] == 0, PATIENCE)
        except AssertionError:
            raise AssertionError(f"{server.sink()} {server.log_text()[-2000:]}") from None
        Oracle(up).check(good)
        return good, bad

    def test_listed_shown_and_delivered_when_the_upstream_was_mended(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url())) as server:
            good, bad = self.poisoned(server, up)
            held = quarantine(server, "list")
            self.assertEqual(sorted(item["lsn"] for item in held), bad)
            self.assertEqual({(item["sink"], item["status"], item["state"], item["kind"]) for item in held}, {("up", 400, "held", "log")})
            self.assertIn("cannot parse poison-marker", held[0]["reason"])
            self.assertEqual(held, quarantine(server, "list", "--sink", "up"))
            self.assertEqual(quarantine(server, "list", "--sink", "other"), [])
            whole = quarantine(server, "show", str(held[2]["id"]))[0]
            self.assertEqual(whole["record"], next(line["record"] for line in server.dump() if line["lsn"] == held[2]["lsn"]))
            # The same as the route says.
            self.assertEqual(server.get("/v1/quarantine").json()["data"][0]["record_id"], held[0]["record_id"])
            up.mode = MENDED
            self.assertEqual(quarantine(server, "requeue", str(held[0]["id"])), [{"status": "requeued", "records": 1}])
            wait_until(lambda: server.sink()["quarantined"] == 3, PATIENCE)
            self.assertEqual(quarantine(server, "requeue", "--sink", "up"), [{"status": "requeued", "records": 3}])
            wait_until(lambda: server.sink()["quarantined"] == 0, PATIENCE)
            Oracle(up).check(good + bad)
            self.assertEqual(quarantine(server, "list"), [])
            server.stop_clean()

    def test_dropped_it_is_in_the_ledger(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url())) as server:
            good, _ = self.poisoned(server, up)
            held = quarantine(server, "list")
            self.assertEqual(quarantine(server, "drop", str(held[1]["id"])), [{"status": "dropped", "records": 1}])
            self.assertEqual((server.sink()["expired"]["dropped"], server.sink()["quarantined"]), (1, 3))
            self.assertIn("--yes", quarantine(server, "drop", "--sink", "up", code=2))
            self.assertEqual(server.sink()["quarantined"], 3)
            self.assertEqual(quarantine(server, "drop", "--sink", "up", "--yes"), [{"status": "dropped", "records": 3}])
            self.assertEqual((server.sink()["expired"]["dropped"], server.sink()["quarantined"]), (4, 0))
            self.assertIn("no record", quarantine(server, "drop", str(held[0]["id"]), code=1))
            up.mode = MENDED
            Oracle(up).check(good)
            server.stop_clean()

    def test_without_a_server_it_is_done_in_the_directory(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url())) as server:
            good, bad = self.poisoned(server, up)
            server.stop_clean()
            held = quarantine(server, "list")
            self.assertEqual(sorted(item["lsn"] for item in held), bad)
            self.assertEqual(quarantine(server, "drop", str(held[0]["id"])), [{"status": "dropped", "records": 1}])
            self.assertEqual(quarantine(server, "requeue", "--sink", "up"), [{"status": "requeued", "records": 3}])
            self.assertIn("already", quarantine(server, "requeue", str(held[1]["id"]), code=1))
            self.assertIn("already", quarantine(server, "drop", str(held[1]["id"]), code=1))
            self.assertEqual({item["state"] for item in quarantine(server, "list")}, {"requeued"})
            up.mode = MENDED
            server.start()
            wait_until(lambda: server.sink()["quarantined"] == 0, PATIENCE)
            self.assertEqual((server.sink()["expired"]["dropped"], server.sink()["delivered"]), (1, len(good) + 3))
            Oracle(up).check(set(good + bad) - {held[0]["lsn"]})
            server.stop_clean()

    def test_requeued_though_nothing_was_mended_it_is_back(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url())) as server:
            self.poisoned(server, up, count=1)
            requests = len(up.requests)
            held = quarantine(server, "list")
            quarantine(server, "requeue", str(held[0]["id"]))
            wait_until(lambda: len(up.requests) > requests and quarantine(server, "list")[0]["state"] == "held", PATIENCE)
            self.assertEqual(server.sink()["quarantined"], 1)

    def test_another_servers_records_are_left_alone(self):
        with Upstream(poison()) as up, Watched(*sink("up", up.url())) as server, Watched(*sink("up", up.url())) as other:
            self.poisoned(server, up, count=1)
            server_dump = server.dump()
            other.send(5, text="poison-marker")
            wait_until(lambda: other.sink()["quarantined"] == 5, PATIENCE)
            address = f"http://127.0.0.1:{other.port}"
            self.assertIn("does not serve", quarantine(server, "drop", "1", url=address, code=1))
            self.assertIn("does not serve", quarantine(server, "drop", "--sink", "up", "--yes", url=address, code=1))
            self.assertEqual((other.sink()["quarantined"], server.sink()["quarantined"]), (5, 1))
            self.assertIn("name its address with --url", quarantine(server, "drop", "1", url="http://127.0.0.1:1", code=1))
            self.assertTrue(server_dump)

    def test_a_token_is_taken_from_a_file(self):
        with Upstream(poison()) as up, Server() as server:
            server.arguments += sink("up", up.url())
            server.stop()
            tokens = os.path.join(server.base, "tokens")
            with open(os.open(tokens, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
                file.write("writer writer-token-000000000000000000 ingest,read\nadmin admin-token-0000000000000000000 read,admin\n")
            for name in ("writer", "admin"):
                with open(os.path.join(server.base, name), "w") as file:
                    file.write(f"{name}-token-{'0' * (18 if name == 'writer' else 19)}\n")
            server.arguments += ["--set", "auth.enabled=true", "--set", f"auth.tokens={tokens}"]
            server.start()
            headers = {"Authorization": "Bearer writer-token-000000000000000000"}
            body = {"timestamp": "2025-08-25T10:00:00Z", "service": "s", "level": "INFO", "message": "poison-marker"}
            self.assertEqual(server.post("/v1/logs", body, headers).status, 202)
            wait_until(lambda: quarantine(server, "list"), PATIENCE)
            self.assertIn("token", quarantine(server, "drop", "1", code=1))
            self.assertIn("token", quarantine(server, "drop", "1", "--token-file", os.path.join(server.base, "writer"), code=1))
            self.assertEqual(quarantine(server, "drop", "1", "--token-file", os.path.join(server.base, "admin")), [{"status": "dropped", "records": 1}])

    def test_where_nothing_was_forwarded_there_is_nothing(self):
        with Server() as server:
            self.assertEqual(quarantine(server, "list"), [])
            self.assertIn("not there", quarantine(server, "drop", "1", code=1))
            self.assertFalse(os.path.exists(os.path.join(server.data_dir, "forward.sqlite")))

    def test_wrong_usage_is_told_with_exit_code_2(self):
        with Server() as server:
            for words in ([], ["lists"], ["show"], ["show", "x"], ["requeue"], ["drop"], ["drop", "1", "--sink", "a"], ["list", "1"], ["list", "--colour"]):
                with self.subTest(words):
                    self.assertIn("sluice help quarantine", quarantine(server, *words, code=2))


if __name__ == "__main__":
    unittest.main()
