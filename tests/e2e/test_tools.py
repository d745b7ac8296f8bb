"""The commands that look at a data directory: query, tail, export, backup, restore, verify, top: beside a running server and without one."""
import csv
import io
import json
import os
import subprocess
import threading
import time
import unittest

from harness import BINARY, Server, record, wait_until

# 4M segments fill quickly, so that every form of a segment is there.
TINY = ["--set", "store.segment_bytes=4M", "--set", "server.max_body=1M", "--set", "store.reserve_bytes=1M", "--set", "store.batch_bytes=1M",
        "--set", "store.compact_rate=0"]


def run(*arguments, code=0, timeout=60):
    done = subprocess.run([BINARY, *arguments], capture_output=True, timeout=timeout)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def lines(output):
    return [json.loads(line) for line in output.splitlines()]


def fill(server, first, count, size=600):
    """count records from number first on, in requests of 500."""
    for at in range(first, first + count, 500):
        batch = [record(n, padding=os.urandom(size // 2).hex(), level="ERROR" if n % 10 == 0 else "INFO", service=f"s{n % 3}")
                 for n in range(at, min(at + 500, first + count))]
        while (answer := server.post("/v1/logs", batch)).status == 429:  # the cores are busy, and expiry is late
            time.sleep(0.1)
        assert answer.status == 202, answer


def metric(server, name):
    text = server.request("GET", "/metrics").body.decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


class Tools(unittest.TestCase):
    def test_query_finds_what_matches_newest_first_in_every_form_of_segment(self):
        with Server(*TINY, small=False) as server:
            fill(server, 1, 20000)
            wait_until(lambda: metric(server, "sluice_archive_compacted_total") >= 2, 30)
            fill(server, 20001, 300)
            for state in ("serving", "stopped"):
                with self.subTest(state):
                    found = lines(run("query", "--data-dir", server.data_dir, "--level", "error", "--limit", "0"))
                    self.assertEqual([r["record"]["correlation_id"] for r in found], [f"n-{n}" for n in range(20300, 0, -10)])
                    found = lines(run("query", "--data-dir", server.data_dir, "--service", "s1", "-n", "5", "--order", "asc"))
                    self.assertEqual([r["record"]["correlation_id"] for r in found], ["n-1", "n-4", "n-7", "n-10", "n-13"])
                    found = lines(run("query", "--data-dir", server.data_dir, "record 12345"))
                    self.assertEqual([r["lsn"] for r in found], [12345])
                    found = lines(run("query", "--data-dir", server.data_dir, "--correlation-id", "n-77"))
                    self.assertEqual([r["lsn"] for r in found], [77])
                server.stop() if state == "serving" else None

    def test_query_says_what_is_wrong_with_its_options(self):
        for arguments, text in ((["--level", "loud"], "level"), (["--start", "yesterday"], "--start"), (["--order", "up"], "order"),
                                (["--nonsense"], "--nonsense"), (["--limit", "x"], "--limit"), (["a", "b"], "too many")):
            done = subprocess.run([BINARY, "query", "--data-dir", "/nonexistent", *arguments], capture_output=True, timeout=20)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(text, done.stderr.decode())
        done = subprocess.run([BINARY, "query", "--data-dir", "/nonexistent"], capture_output=True, timeout=20)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent", done.stderr.decode())

    def test_tail_shows_what_comes_and_nothing_before(self):
        with Server(*TINY, small=False) as server:
            fill(server, 1, 100)
            tail = subprocess.Popen([BINARY, "tail", "--data-dir", server.data_dir, "--limit", "6000"], stdout=subprocess.PIPE)
            time.sleep(1)
            fill(server, 101, 6000)  # over the end of a segment
            out, _ = tail.communicate(timeout=30)
            self.assertEqual([r["lsn"] for r in lines(out)], list(range(101, 6101)))

    def test_an_empty_log_is_an_empty_answer_and_no_search_without_end(self):
        with Server() as server:
            for command in (["query"], ["query", "--order", "asc"], ["export"]):
                self.assertEqual(run(*command, "--data-dir", server.data_dir, timeout=10), b"")
            tail = subprocess.Popen([BINARY, "tail", "--data-dir", server.data_dir, "--limit", "1"], stdout=subprocess.PIPE)
            time.sleep(1)
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
            out, _ = tail.communicate(timeout=20)
            self.assertEqual([r["lsn"] for r in lines(out)], [1])

    def test_query_that_follows_has_no_limit_of_its_own(self):
        with Server() as server:
            query = subprocess.Popen([BINARY, "query", "-f", "--start", "2025-01-01T00:00:00Z", "--data-dir", server.data_dir], stdout=subprocess.PIPE)
            fill(server, 1, 500)
            rows = [json.loads(query.stdout.readline()) for _ in range(150)]
            self.assertEqual([r["lsn"] for r in rows], list(range(1, 151)))
            self.assertIsNone(query.poll())
            query.kill()
            query.communicate()

    def test_export_gives_back_every_byte_as_ndjson_and_parses_as_csv(self):
        with Server() as server:
            odd = '{"timestamp":"2025-08-25T10:00:00Z", "service":"a,\\"b\\"","level":"WARN",  "message":"line\\none, \\u00e9","n":12345678901234567890}'
            self.assertEqual(server.post("/v1/logs", odd).status, 202)
            self.assertEqual(server.post("/v1/metrics", {"timestamp": "2025-08-25T10:00:00Z", "service": "m", "name": "x", "value": 1.5}).status, 202)
            server.stop()
            raw = run("export", "--data-dir", server.data_dir)
            self.assertIn(odd.encode(), raw)
            self.assertEqual([r["kind"] for r in lines(raw)], ["log", "metric"])
            rows = list(csv.DictReader(io.StringIO(run("export", "--data-dir", server.data_dir, "--format", "csv").decode(), newline="")))
            self.assertEqual(rows[0]["service"], 'a,"b"')
            self.assertEqual(rows[0]["message"], "line\none, é")
            self.assertEqual(rows[0]["record"], odd)
            self.assertEqual(rows[1]["name"], "x")
            self.assertEqual(raw, run("dump", "--data-dir", server.data_dir))

    def test_a_terminal_is_never_sent_what_a_client_wrote_to_control_it(self):
        with Server() as server:
            self.assertEqual(server.post("/v1/logs", record(1, message="\x1b[2Jgone\x07")).status, 202)
            server.stop()
            out = run("query", "--data-dir", server.data_dir, "--format", "text")
            self.assertNotIn(b"\x1b[2J", out)
            self.assertIn(b"\\x1b[2Jgone\\x07", out)

    def test_a_backup_taken_under_load_restores_to_a_prefix_that_holds_all_that_was_acknowledged_before_it(self):
        with Server(*TINY, small=False) as server:
            fill(server, 1, 12000)
            is_over, sent = threading.Event(), [12000]

            def load():
                while not is_over.is_set():
                    fill(server, sent[0] + 1, 500)
                    sent[0] += 500

            thread = threading.Thread(target=load)
            thread.start()
            try:
                for turn in range(3):
                    before = sent[0]
                    backup = os.path.join(server.base, f"backup{turn}")
                    restored = os.path.join(server.base, f"restored{turn}")
                    run("backup", "--data-dir", server.data_dir, "--to", backup)
                    run("restore", "--from", backup, "--data-dir", restored)
                    run("verify", "--data-dir", restored)
                    lsns = [r["lsn"] for r in lines(run("dump", "--data-dir", restored))]
                    self.assertEqual(lsns, list(range(1, len(lsns) + 1)))
                    self.assertGreaterEqual(len(lsns), before)
            finally:
                is_over.set()
                thread.join()
            server.stop_clean()
            with Server(*TINY, small=False, data_dir=restored) as second:
                fill(second, len(lsns) + 1, 500)
                second.stop_clean()
            self.assertEqual(len(lines(run("dump", "--data-dir", restored))), len(lsns) + 500)
            self.assertEqual(len(lines(run("dump", "--data-dir", server.data_dir))), sent[0])
            run("verify", "--data-dir", server.data_dir)

    def test_a_damaged_backup_is_not_restored_and_leaves_nothing_behind(self):
        with Server(*TINY, small=False) as server:
            fill(server, 1, 10000)
            server.stop()
            backup, target = os.path.join(server.base, "backup"), os.path.join(server.base, "target")
            run("backup", "--data-dir", server.data_dir, "--to", backup)
            run("backup", "--data-dir", server.data_dir, "--to", backup, code=1)  # not empty any more
            victim = os.path.join(backup, "log", sorted(os.listdir(os.path.join(backup, "log")))[-1])
            with open(victim, "rb") as file:
                data = bytearray(file.read())
            data[len(data) // 3] ^= 1
            os.unlink(victim)  # it may be a link to the original
            with open(victim, "wb") as file:
                file.write(data)
            done = subprocess.run([BINARY, "restore", "--from", backup, "--data-dir", target], capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(os.path.basename(victim), done.stderr.decode())
            self.assertFalse(os.path.exists(target))
            run("verify", "--data-dir", server.data_dir)

    def test_a_directory_without_its_manifest_is_no_backup(self):
        with Server() as server:
            fill(server, 1, 10)
            server.stop()
            backup = os.path.join(server.base, "backup")
            run("backup", "--data-dir", server.data_dir, "--to", backup)
            manifest = os.path.join(backup, "MANIFEST")
            with open(manifest) as file:
                text = file.read()
            for bad in (text[:-8], text.replace("log/", "../log/"), text.replace("sluice-backup 1", "sluice-backup 2"), ""):
                with open(manifest, "w") as file:
                    file.write(bad)
                run("restore", "--from", backup, "--data-dir", os.path.join(server.base, "t"), code=1)
            os.unlink(manifest)
            run("restore", "--from", backup, "--data-dir", os.path.join(server.base, "t"), code=1)

    def test_top_reports_rates_and_latencies_of_a_running_server(self):
        with Server() as server:
            top = subprocess.Popen([BINARY, "top", "--url", f"127.0.0.1:{server.port}", "--interval", "0.5", "--count", "3"], stdout=subprocess.PIPE)
            end = time.monotonic() + 1.6
            n = 1
            while time.monotonic() < end:
                fill(server, n, 500)
                n += 500
            out, _ = top.communicate(timeout=20)
            rows = lines(out)
            self.assertEqual(len(rows), 3)
            self.assertGreater(max(row["durable_per_s"] for row in rows), 500)
            self.assertGreater(rows[1]["ack_p99_s"], 0)
            self.assertEqual(rows[-1]["state"], 0)
            self.assertEqual(rows[-1]["healthy"], 1)
        done = subprocess.run([BINARY, "top", "--url", "127.0.0.1:1", "--count", "1"], capture_output=True, timeout=20)
        self.assertEqual(done.returncode, 1)
        self.assertIn("127.0.0.1:1", done.stderr.decode())


class Life(unittest.TestCase):
    """Seal, compact, expire in the running server."""

    def test_kill_9_during_sealing_and_compaction_loses_and_doubles_nothing(self):
        kills = max(8, int(os.environ.get("SLUICE_TEST_KILLS", "50")) // 5)
        with Server(*TINY, small=False) as server:
            sent = 0
            for turn in range(kills):
                fill(server, sent + 1, 2500 + 137 * (turn % 5))
                sent += 2500 + 137 * (turn % 5)
                time.sleep(0.02 * (turn % 7))
                server.kill9()
                server.start()
            log = os.path.join(server.data_dir, "log")
            wait_until(lambda: any(n.endswith(".slc") for n in os.listdir(log)), 60)
            server.stop_clean()
            self.assertEqual([r["lsn"] for r in lines(run("dump", "--data-dir", server.data_dir))], list(range(1, sent + 1)))
            run("verify", "--data-dir", server.data_dir)

    def test_retention_by_bytes_keeps_the_newest_and_the_server_accepting(self):
        with Server(*TINY, "--set", "store.retention_bytes=24M", "--set", "store.compact=false", small=False) as server:
            fill(server, 1, 60000)  # some 36 MB of records
            wait_until(lambda: metric(server, "sluice_archive_expired_segments_total") > 2, 20)
            wait_until(lambda: server.request("GET", "/healthcheck").status == 200, 20)
            fill(server, 60001, 500)
            wait_until(lambda: metric(server, "sluice_store_log_bytes") < 36 << 20, 20)
            server.stop_clean()
            lsns = [r["lsn"] for r in lines(run("dump", "--data-dir", server.data_dir))]
            self.assertGreater(lsns[0], 1)
            self.assertEqual(lsns, list(range(lsns[0], 60501)))
            run("verify", "--data-dir", server.data_dir)
            with Server(*TINY, small=False, data_dir=server.data_dir) as again:
                ledger = again.request("GET", "/v1/ledger").json()
                self.assertTrue(ledger)
                fill(again, 60501, 10)

    def test_an_old_segment_is_left_and_compacted_although_it_has_room(self):
        with Server(*TINY, "--set", "store.segment_age=1s", small=False) as server:
            fill(server, 1, 100)
            wait_until(lambda: metric(server, "sluice_archive_compacted_total") >= 1, 20)
            self.assertEqual(len(lines(run("query", "--data-dir", server.data_dir, "--limit", "0"))), 100)
            server.stop_clean()

    def test_the_catalog_follows_and_a_damaged_one_is_made_again(self):
        import sqlite3
        with Server(*TINY, small=False) as server:
            fill(server, 1, 20000)
            path = os.path.join(server.data_dir, "catalog.sqlite")

            def rows():
                with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
                    return db.execute("SELECT id, state, first_lsn, last_lsn FROM segments ORDER BY id").fetchall()

            wait_until(lambda: os.path.exists(path) and len([r for r in rows() if r[1] == "compacted"]) >= 2, 30)
            server.stop_clean()
            before = [r for r in rows() if r[1] == "compacted"]
            for suffix in ("-wal", "-shm"):
                if os.path.exists(path + suffix):
                    os.unlink(path + suffix)
            with open(path, "r+b") as file:
                file.seek(40)
                file.write(os.urandom(3000))
            server.start()
            wait_until(lambda: [r for r in rows() if r[1] == "compacted"][:len(before)] == before, 20)
            self.assertTrue(os.path.exists(path + ".damaged"))
            self.assertIn("catalog", server.log_text())
            server.stop_clean()
            run("verify", "--data-dir", server.data_dir)

    def test_a_catalog_that_somebody_holds_does_not_stop_the_start(self):
        import sqlite3
        with Server(*TINY, small=False) as server:
            fill(server, 1, 10)
            server.stop_clean()
            db = sqlite3.connect(os.path.join(server.data_dir, "catalog.sqlite"), isolation_level=None)
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            try:
                server.start()
                fill(server, 11, 10)
                self.assertIn("serving without it", server.log_text())
                server.stop_clean()
            finally:
                db.close()
            self.assertEqual(len(lines(run("dump", "--data-dir", server.data_dir))), 20)
            server.start()
            self.assertNotIn("serving without it", server.log_text())
            server.stop_clean()

    def test_alerts_say_that_the_log_grows_towards_its_limit(self):
        with Server(*TINY, "--set", "store.retention_bytes=40M", "--set", "store.alert_levels=10,20", small=False) as server:
            fill(server, 1, 20000)
            wait_until(lambda: "disk_usage" in server.log_text(), 20)
            self.assertGreater(metric(server, "sluice_disk_usage_ratio"), 0)
            server.stop_clean()


if __name__ == "__main__":
    unittest.main()
