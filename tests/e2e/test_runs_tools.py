"""The commands that look at agent runs: runs, verify, backup, restore: beside a server that writes, without one, and after a kill -9."""
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

from harness import BINARY, Server, wait_until
from test_runs_contract import COLUMNS, database, fetch, run, sql


def tool(*arguments, code=0):
    done = subprocess.run([BINARY, *arguments], capture_output=True, timeout=120)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}: {done.stdout.decode()} {done.stderr.decode()}"
    return done.stdout.decode() if code == 0 else done.stdout.decode() + done.stderr.decode()


def fill(server, first, count, **more):
    answer = server.post("/api/v1/runs/batch", [run(n, agent_name=f"a{n % 3}", status="failure" if n % 5 == 0 else "success", **more) for n in range(first, first + count)])
    assert answer.json()["inserted"] == count, answer


def change(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


class RunsCommand(unittest.TestCase):
    def test_list_and_show_say_what_the_routes_say(self):
        with Server() as server:
            fill(server, 0, 200)
            filters = ([], ["--agent", "a1"], ["--status", "failed"], ["--job-type", "crawl", "-n", "3"], ["--created-after", "2026-01-01"], ["--offset", "150"],
                       ["--start-from", "2027-01-01T00:00:00Z"], ["--created-before", "2020-01-01"], ["--start-to", "2026-01-10T10:00:00+00:00"])
            names = {"--agent": "agent_name", "--status": "status", "--job-type": "job_type", "-n": "limit", "--created-after": "created_after", "--offset": "offset",
                     "--start-from": "start_time_from", "--created-before": "created_before", "--start-to": "start_time_to"}
            wanted = []
            for arguments in filters:
                query = {names[name]: value for name, value in zip(arguments[::2], arguments[1::2])}
                wanted.append(fetch(server, "/api/v1/runs?" + urllib.parse.urlencode(query)).json())
            self.assertEqual([len(found) for found in wanted], [100, 67, 40, 3, 100, 50, 0, 0, 100])
            one = fetch(server, "/api/v1/runs/e-7").json()
            metrics = server.get("/metrics", {"Accept": "application/json"}).json()
            for state in ("serving", "killed"):
                with self.subTest(state):
                    for arguments, found in zip(filters, wanted):
                        lines = tool("runs", "list", "--data-dir", server.data_dir, *arguments).splitlines()
                        self.assertEqual([json.loads(line) for line in lines], found)
                    self.assertEqual(json.loads(tool("runs", "show", "e-7", "--data-dir", server.data_dir)), one)
                    self.assertEqual(json.loads(tool("runs", "stats", "--json", "--data-dir", server.data_dir)), metrics)
                    text = tool("runs", "show", "e-7", "--data-dir", server.data_dir, "--format", "text")
                    self.assertIn("agent_name: a1\n", text)
                    self.assertNotIn("product", text)
                    self.assertEqual(len(tool("runs", "list", "--data-dir", server.data_dir, "--format", "text").splitlines()), 100)
                if state == "serving":
                    server.kill9()

    def test_a_terminal_is_never_sent_what_a_client_wrote_to_control_it(self):
        with Server() as server:
            fill(server, 0, 1, error_summary="\x1b[2J\x07\u009b2J\nline", product="x" * 1000 + "ü")
            for command in (["list"], ["show", "e-0"]):
                text = tool("runs", *command, "--data-dir", server.data_dir, "--format", "text")
                for bad in ("\x1b", "\x07", "\u009b"):
                    self.assertNotIn(bad, text)
                self.assertIn("\\x1b[2J", text)

    def test_wrong_usage_and_failures(self):
        for arguments, code, text in ((["list", "--status", "odd"], 2, "Invalid status"), (["list", "-n", "0"], 2, "greater than or equal to 1"), (["show"], 2, "EVENT_ID"),
                                      (["list", "--created-after", "x"], 2, "Invalid ISO8601"), ([], 2, "list, show"), (["show", "a", "b"], 2, "EVENT_ID"),
                                      (["list", "--odd"], 2, "--odd"), (["list", "--format", "xml"], 2, "ndjson"), (["stats", "--agent", "a"], 2, "filters"),
                                      (["list", "--data-dir", "/nonexistent"], 1, "/nonexistent")):
            with self.subTest(arguments):
                self.assertIn(text, tool("runs", *arguments, code=code))
        with Server() as server:
            self.assertIn("Run not found: x", tool("runs", "show", "x", "--data-dir", server.data_dir, code=1))


class Verify(unittest.TestCase):
    def test_a_good_one_is_good_whether_it_is_served_or_not(self):
        with Server() as server:
            fill(server, 0, 100)
            for state in ("serving", "stopped"):
                text = tool("verify", "--data-dir", server.data_dir)
                self.assertIn("ok: ", text)
                self.assertIn("agent runs: schema version 6, 100 runs, 0 events, applied up to LSN 100", text)
                server.stop() if state == "serving" else None

    def faulty(self, spoil, text):
        with Server() as server:
            fill(server, 0, 300)
            server.stop()
            spoil(database(server))
            said = tool("verify", "--data-dir", server.data_dir, code=1)
            self.assertRegex(said, "FAULT runs.sqlite: .*" + text)
            self.assertIn("DAMAGED", said)

    def test_each_fault_is_told(self):
        def noise(path):
            with open(path, "r+b") as file:
                for at in range(20, 60):
                    file.seek(at * 4096 + 8)
                    file.write(b"\xff" * 64)

        def no_database(path):
            with open(path, "r+b") as file:
                file.write(b"this is none")

        rows = [(noise, "(malformed|row|page|Page|cell|btree|Tree)"), (no_database, "not a database"),
                (lambda path: change(path, "PRAGMA journal_mode=WAL"), "journal_mode"),
                (lambda path: change(path, "UPDATE sluice_meta SET value='301' WHERE key='applied_lsn'"), "applied LSN 301, but the log ends at 300"),
                (lambda path: change(path, "INSERT INTO schema_migrations(version) VALUES(7)"), "version 7 is newer"),
                (lambda path: change(path, "ALTER TABLE agent_runs DROP COLUMN agent_owner"), "columns"),
                (lambda path: change(path, "DROP TABLE schema_migrations"), "schema_migrations")]
        for spoil, text in rows:
            with self.subTest(text):
                self.faulty(spoil, text)

    def test_a_database_of_the_original_that_was_never_served_is_no_fault(self):
        with Server() as server:
            fill(server, 0, 3)
            server.stop()
            change(database(server), "DROP TABLE sluice_meta")
            self.assertIn("not yet served", tool("verify", "--data-dir", server.data_dir))

    def test_a_transaction_that_a_killed_writer_left_is_no_fault(self):
        """A hot journal: whoever reads first rolls it back."""
        writer = ("import os,signal,sqlite3,sys\n"
                  "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                  "c.execute('PRAGMA cache_size=2'); c.execute('BEGIN'); c.execute(\"UPDATE agent_runs SET error_details=hex(randomblob(3000)), agent_name='half'\")\n"
                  "os.kill(os.getpid(), signal.SIGKILL)\n")
        for command in ("verify", "runs", "backup"):
            with self.subTest(command), Server() as server:
                fill(server, 0, 300)
                server.stop()
                subprocess.run([sys.executable, "-c", writer, database(server)], timeout=60, check=False)
                self.assertTrue(os.path.exists(database(server) + "-journal"))
                if command == "verify":
                    self.assertIn("300 runs", tool("verify", "--data-dir", server.data_dir))
                elif command == "runs":
                    self.assertEqual(tool("runs", "list", "--agent", "half", "--data-dir", server.data_dir), "")
                else:
                    copy = os.path.join(server.base, "copy")
                    tool("backup", "--data-dir", server.data_dir, "--to", copy)
                    with contextlib.closing(sqlite3.connect(os.path.join(copy, "runs.sqlite"))) as connection:
                        self.assertEqual(connection.execute("SELECT count(*) FROM agent_runs WHERE agent_name <> 'half'").fetchone(), (300,))
                server.start()
                self.assertEqual(sql(server, "SELECT count(*) FROM agent_runs WHERE agent_name = 'half'"), [(0,)])


class Backup(unittest.TestCase):
    def test_beside_a_server_that_never_rests(self):
        """What was answered before the backup began is in it, and what it holds is a state that once was."""
        with Server() as server:
            for first in range(0, 12000, 400):  # 40 MiB: many times what is copied at a time, so that a commit falls between two times
                fill(server, first, 400, error_details="x" * 3000)
            done, written, failures = threading.Event(), [], []

            def write(which):
                try:
                    number = 0
                    while not done.is_set():
                        assert server.post("/api/v1/runs/batch", [run(f"{which}-{number}-{n}", product=f"{which}-{number}") for n in range(10)]).status == 200
                        written.append((which, number))
                        number += 1
                except Exception as error:  # pylint: disable=broad-except
                    failures.append(error)
            threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(written) > 20, 30)
            before = list(written)
            copy = os.path.join(server.base, "copy")
            tool("backup", "--data-dir", server.data_dir, "--to", copy)
            done.set()
            for thread in threads:
                thread.join(60)
            self.assertEqual(failures, [])
            self.assertGreater(len(written), len(before))
            server.stop_clean()

            back = os.path.join(server.base, "back")
            tool("restore", "--from", copy, "--data-dir", back)
            self.assertIn("ok: ", tool("verify", "--data-dir", back))
            with contextlib.closing(sqlite3.connect(os.path.join(back, "runs.sqlite"))) as connection:
                self.assertEqual(connection.execute("PRAGMA integrity_check").fetchone(), ("ok",))
                copied = dict(connection.execute("SELECT product, count(*) FROM agent_runs WHERE product IS NOT NULL GROUP BY product").fetchall())
            self.assertEqual(set(copied.values()), {10})
            self.assertLessEqual({f"{which}-{number}" for which, number in before}, set(copied))
            with Server(data_dir=back) as restored:  # the rest of the log is applied
                self.assertEqual(restored.get("/api/v1/runs/e-0").status, 200)
                found = dict(sql(restored, "SELECT product, count(*) FROM agent_runs WHERE product IS NOT NULL GROUP BY product"))
                self.assertLessEqual(set(copied), set(found))
                self.assertEqual(set(found.values()), {10})
                self.assertEqual(restored.post("/api/v1/runs", run(0)).status, 200)
                restored.stop_clean()
            self.assertIn("ok: ", tool("verify", "--data-dir", back))

    def test_a_database_that_is_elsewhere(self):
        server = Server()
        elsewhere = os.path.join(server.base, "elsewhere.db")
        server.arguments += ["--set", f"runs.db={elsewhere}"]
        with server:
            fill(server, 0, 10)
            self.assertIn("10 runs", tool("verify", "--data-dir", server.data_dir, "--runs-db", elsewhere))
            self.assertEqual(len(tool("runs", "list", "--runs-db", elsewhere).splitlines()), 10)
            copy = os.path.join(server.base, "copy")
            tool("backup", "--data-dir", server.data_dir, "--to", copy, "--runs-db", elsewhere)
            with open(os.path.join(copy, "MANIFEST"), encoding="utf-8") as manifest:
                self.assertIn(" runs.sqlite\n", manifest.read())
            server.stop()
            back = os.path.join(server.base, "back")
            tool("restore", "--from", copy, "--data-dir", back)
            with Server(data_dir=back) as restored:
                self.assertEqual(restored.get("/api/v1/runs/e-9").status, 200)
            tool("backup", "--data-dir", server.data_dir, "--to", copy + "2", "--runs-db", elsewhere + ".none", code=1)

    def test_a_lost_database_is_made_again_from_a_restored_log(self):
        with Server() as server:
            fill(server, 0, 50)
            copy = os.path.join(server.base, "copy")
            tool("backup", "--data-dir", server.data_dir, "--to", copy)
            rows = sql(server, f"SELECT {','.join(COLUMNS)} FROM agent_runs ORDER BY id")
            server.stop()
            shutil.rmtree(server.data_dir)
            tool("restore", "--from", copy, "--data-dir", server.data_dir)
            os.unlink(database(server))
            server.start()
            self.assertEqual(sql(server, f"SELECT {','.join(COLUMNS)} FROM agent_runs ORDER BY id"), rows)


if __name__ == "__main__":
    unittest.main()
