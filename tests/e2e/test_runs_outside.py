"""Other tools at the agent-run database while the server runs, and a full disk under it: with the real sqlite3, cp, mv and rm. What was
accepted is applied exactly once in the end, nothing is answered out of a file that nobody else sees, and the log says what to do."""
import contextlib
import json
import os
import shutil
import sqlite3
import signal
import subprocess
import tempfile
import threading
import unittest

import test_overload
from harness import BINARY, Server, wait_until
from test_runs_contract import database, fetch, path_of, run, sql, tool

RUNS = "/api/v1/runs"


def create(server, number, status=201, **more):
    answer = server.post(RUNS, run(number, **more))
    assert answer.status == status, answer


def add_event(server, number, kind):
    answer = server.post(path_of(f"e-{number}", "events"), {"event_type": kind})
    assert answer.status == 201, answer


def ids(server):
    return sorted(row[0] for row in sql(server, "SELECT event_id FROM agent_runs"))


def events(server):
    return sorted(row[0] for row in sql(server, "SELECT event_type FROM run_events"))


def metric(server, name):
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"no {name}")


def verify(*arguments, code=0):
    done = subprocess.run([BINARY, "verify", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, f"{done.stdout} {done.stderr}"
    return done.stdout + done.stderr


class Content(unittest.TestCase):
    """The file keeps its name; what is in it changes."""

    def test_an_older_state_put_over_the_file_is_caught_up(self):
        def by_cp(db, copy):
            subprocess.run(["cp", copy, db], check=True)

        def by_sqlite3(db, copy):
            subprocess.run(["sqlite3", "-cmd", ".timeout 10000", db, f".restore {copy}"], check=True, capture_output=True)

        for restore, next_command in ((by_cp, True), (by_sqlite3, True), (by_cp, False), (by_sqlite3, False)):
            with self.subTest(restore.__name__, next_command=next_command), Server() as server:
                create(server, 1)
                add_event(server, 1, "first")
                copy = os.path.join(server.base, "copy")
                tool(server, f".backup {copy}")
                create(server, 2)
                add_event(server, 1, "second")
                restore(database(server), copy)
                if next_command:
                    create(server, 3)
                wait_until(lambda: "e-2" in ids(server))
                wait_until(lambda: "content has changed under the server" in server.log_text())
                self.assertEqual(ids(server), ["e-1", "e-2"] + ["e-3"] * next_command)
                self.assertEqual(events(server), ["first", "second"])
                self.assertEqual(metric(server, "sluice_runs_stored"), len(ids(server)))
                server.stop_clean()
                server.start()
                self.assertEqual(events(server), ["first", "second"])

    def test_a_commit_whose_journal_somebody_removes_counts_once(self):
        """SQLite says that the commit failed, and it has happened. The mirror's lines too are there once."""
        with tempfile.TemporaryDirectory(prefix="sluice-e2e-") as mirror, Server("--set", f"runs.ndjson_dir={mirror}/raw") as server:
            create(server, 1)
            journal, done = database(server) + "-journal", threading.Event()

            def remove():
                while not done.is_set():
                    with contextlib.suppress(OSError):
                        os.unlink(journal)

            thread = threading.Thread(target=remove)
            thread.start()
            statuses = []
            with server.connect(30) as connection:
                number = 0
                while 503 not in statuses and number < 200:
                    connection.send(test_overload.request_bytes("POST", path_of("e-1", "events"), json.dumps({"event_type": f"x{number}"}).encode()))
                    statuses.append(connection.response().status)
                    number += 1
            done.set()
            thread.join()
            if 503 not in statuses:
                self.skipTest("200 commits, and the journal was never removed in the moment that hurts")
            wait_until(lambda: server.get("/healthcheck").status == 200)
            self.assertEqual(events(server), sorted(f"x{n}" for n in range(number)))
            create(server, 2)
            server.stop_clean()
            lines = []
            for name in sorted(os.listdir(f"{mirror}/raw")):
                with open(f"{mirror}/raw/{name}", encoding="utf-8") as file:
                    lines += [json.loads(line) for line in file]
            self.assertEqual([line["body"]["event_type"] for line in lines[1:-1]], [f"x{n}" for n in range(number)])
            self.assertEqual([lines[0]["event_id"], lines[-1]["event_id"]], ["e-1", "e-2"])

    def test_what_tools_may_do_to_the_tables_stops_nothing(self):
        for statement in ("DROP INDEX idx_runs_agent_name; DROP INDEX idx_runs_created_at", "ALTER TABLE agent_runs ADD COLUMN extra TEXT", "VACUUM",
                          "DELETE FROM agent_runs WHERE event_id = 'e-1'", "PRAGMA page_size = 8192; VACUUM", "ANALYZE"):
            with self.subTest(statement), Server() as server:
                create(server, 1)
                create(server, 2)
                tool(server, statement)
                create(server, 3)
                self.assertEqual(server.request("PATCH", path_of("e-2"), {"status": "completed"}).status, 200)
                create(server, 1, 201 if "DELETE" in statement else 200)
                self.assertEqual(len(fetch(server, RUNS + "?agent_name=crawler").json()), 3)
                server.stop_clean()
                server.start()
                self.assertEqual(ids(server), ["e-1", "e-2", "e-3"])
                server.stop_clean()
                self.assertIn("ok: ", verify("--data-dir", server.data_dir))

    def test_another_journal_mode_is_told_and_undone_by_the_next_start(self):
        with Server() as server:
            create(server, 1)
            self.assertEqual(tool(server, "PRAGMA journal_mode=WAL").strip(), "wal")
            create(server, 2)
            wait_until(lambda: "runs_journal" in server.log_text())
            self.assertEqual(server.get("/health").json()["journal_mode"], "WAL")
            self.assertIn("journal_mode is not DELETE", verify("--data-dir", server.data_dir, code=1))
            server.kill9()
            server.start()
            self.assertIn("journal_mode was wal, it is DELETE now", server.log_text())
            self.assertEqual(tool(server, "PRAGMA journal_mode").strip(), "delete")
            self.assertEqual(ids(server), ["e-1", "e-2"])
            server.stop_clean()

    def test_lists_do_not_trust_zones_that_nobody_keeps(self):
        """The list by start_time takes stretches from a table of ours, which triggers keep; somebody drops one."""
        for statement in ("DROP TRIGGER sluice_run_zones_insert", "DROP TRIGGER sluice_run_zones_update; DROP TRIGGER sluice_run_zones_insert"):
            with self.subTest(statement), Server() as server:
                self.assertEqual(server.post(RUNS + "/batch", [run(n, created_at="2026-01-01T00:00:00+00:00") for n in range(5000)]).json()["inserted"], 5000)
                window = RUNS + "?limit=3&start_time_from=2020-01-01T00:00:00Z"
                self.assertEqual(fetch(server, window).status, 200)
                tool(server, statement)
                create(server, "new")
                self.assertEqual(fetch(server, window).json()[0]["event_id"], "e-new")
                server.stop_clean()
                server.start()
                self.assertEqual(fetch(server, window).json()[0]["event_id"], "e-new")
                self.assertEqual(tool(server, "SELECT count(*) FROM sqlite_master WHERE name LIKE 'sluice_run_zones%'").strip(), "3")
                server.stop_clean()

    def test_tables_that_are_gone_are_made_again_by_the_next_start(self):
        for statement in ("DROP TABLE agent_runs", "DROP TABLE sluice_run_zones"):
            with self.subTest(statement), Server() as server:
                create(server, 1)
                tool(server, statement)
                with server.connect(30) as waiting:
                    waiting.send(test_overload.request_bytes("POST", RUNS, json.dumps(run(2)).encode()))
                    wait_until(lambda: server.get("/healthcheck").status == 503)
                    self.assertIn("another tool has changed its tables", server.get("/healthcheck").json()["reason"])
                    wait_until(lambda: "until the next start" in server.log_text())
                    server.kill9()  # an orderly stop would wait for the request that waits
                server.start()
                self.assertEqual(ids(server), ["e-1", "e-2"])
                self.assertEqual(server.get("/healthcheck").status, 200)
                server.stop_clean()


class Name(unittest.TestCase):
    """The file loses its name while the server has it open."""

    def wait_for_moved(self, server):
        wait_until(lambda: server.get("/healthcheck").status == 503)
        self.assertIn("moved, replaced or deleted: put it back, or restart the server", server.get("/healthcheck").json()["reason"])
        wait_until(lambda: "runs_moved" in server.log_text())
        for path in (RUNS, path_of("e-1"), "/api/v1/metadata"):
            answer = fetch(server, path)
            self.assertEqual((answer.status, "moved" in answer.json()["detail"]), (503, True), path)
        health = server.get("/health")
        self.assertEqual((health.status, health.json()["status"]), (503, "unavailable"))
        self.assertEqual(server.post("/v1/logs", {"timestamp": "2025-08-25T10:00:00Z", "service": "s", "level": "INFO", "message": "m"}).status, 202)

    def test_back_under_its_name_it_is_served_on(self):
        with Server() as server:
            create(server, 1)
            path = database(server)
            subprocess.run(["mv", path, path + ".aside"], check=True)
            self.wait_for_moved(server)
            with server.connect(30) as waiting:
                waiting.send(test_overload.request_bytes("POST", RUNS, json.dumps(run(2)).encode()))
                wait_until(lambda: len(server.dump("--kind", "run")) == 2)
                subprocess.run(["mv", path + ".aside", path], check=True)
                self.assertEqual(waiting.response().status, 201)
            wait_until(lambda: server.get("/healthcheck").status == 200)
            self.assertEqual(fetch(server, path_of("e-2")).status, 200)
            server.stop_clean()

    def lose(self, lose, wanted):
        with Server() as server:
            create(server, 1)
            add_event(server, 1, "once")
            shutil.copy(database(server), database(server) + ".old")
            create(server, 2)
            lose(database(server))
            self.wait_for_moved(server)
            with server.connect(30) as waiting:
                waiting.send(test_overload.request_bytes("POST", RUNS, json.dumps(run(3)).encode()))
                wait_until(lambda: len(server.dump("--kind", "run")) == 4)
                server.stop()
            server.start()
            self.assertEqual(ids(server), wanted)
            self.assertEqual(events(server), ["once"])
            create(server, 3, 200)
            server.stop_clean()
            self.assertIn("ok: ", verify("--data-dir", server.data_dir))

    def test_replaced_by_an_older_one_it_is_caught_up_by_the_next_start(self):
        self.lose(lambda path: subprocess.run(["mv", path + ".old", path], check=True), ["e-1", "e-2", "e-3"])

    def test_deleted_it_is_made_again_by_the_next_start(self):
        self.lose(lambda path: subprocess.run(["rm", path], check=True), ["e-1", "e-2", "e-3"])


class Verify(unittest.TestCase):
    def test_it_checks_a_copy_beside_a_server_and_leaves_nothing(self):
        """However it ends: what it works on has no name."""
        with Server() as server:
            for first in range(0, 4000, 400):
                answer = server.post(RUNS + "/batch", [run(n, error_details="x" * 3000) for n in range(first, first + 400)])
                self.assertEqual(answer.json()["inserted"], 400)
            before = sorted(os.listdir(server.data_dir))

            def holds_a_copy(process):
                with contextlib.suppress(OSError):
                    return any("runs.sqlite.copy.part (deleted)" in os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd"))
                return False

            for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None):
                process = subprocess.Popen([BINARY, "verify", "--data-dir", server.data_dir], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                wait_until(lambda: holds_a_copy(process) or process.poll() is not None, step=0.001)
                if number is not None:
                    process.send_signal(number)
                said, errors = process.communicate(timeout=60)
                self.assertIn("ok: " if number is None else "", said)
                self.assertNotIn("checked in place", errors)
                left = [name for name in os.listdir(server.data_dir) if name not in before and "-journal" not in name and "catalog" not in name]
                self.assertEqual(left, [])
                create(server, f"v-{number}")
            server.stop_clean()

    def test_a_server_stores_runs_while_it_checks(self):
        """It is stopped in the middle of its check, for as long as a commit takes."""
        with Server() as server:
            for first in range(0, 2000, 400):
                self.assertEqual(server.post(RUNS + "/batch", [run(n, error_details="x" * 3000) for n in range(first, first + 400)]).json()["inserted"], 400)
            process = subprocess.Popen([BINARY, "verify", "--data-dir", server.data_dir], stdout=subprocess.PIPE, text=True)
            inode = f":{os.stat(database(server)).st_ino} "

            def is_stopped():
                with open(f"/proc/{process.pid}/stat", encoding="utf-8") as file:
                    return file.read().rsplit(")", 1)[1].split()[0] in "TZ"

            def has_copy():
                with contextlib.suppress(OSError):
                    for fd in os.listdir(f"/proc/{process.pid}/fd"):
                        name = f"/proc/{process.pid}/fd/{fd}"
                        if "runs.sqlite.copy.part" in os.readlink(name):
                            return os.stat(name).st_size >= os.stat(database(server)).st_size
                return False

            def is_locked():
                with open("/proc/locks", encoding="utf-8") as file:
                    return any(inode in line and f" {process.pid} " in line for line in file)

            def stops_behind_its_copy():
                if not has_copy():
                    return process.poll() is not None
                process.send_signal(signal.SIGSTOP)
                wait_until(is_stopped)
                if is_locked():
                    process.send_signal(signal.SIGCONT)
                    return False
                return True

            wait_until(stops_behind_its_copy, step=0.001)
            is_under_way = process.poll() is None
            create(server, "meanwhile")
            process.send_signal(signal.SIGCONT)
            self.assertIn("ok: ", process.communicate(timeout=60)[0])
            if not is_under_way:
                self.skipTest("the check was over before it could be stopped")
            server.stop_clean()


class FullDisk(unittest.TestCase):
    """A file system of 64 MiB for the database alone, which a neighbour fills; the log is elsewhere."""
    drop = classmethod(test_overload.SmallDisk.drop.__func__)

    def fill(self):
        """To the last block: what the file system keeps for its own bookkeeping comes back when it has written it."""
        test_overload.SmallDisk.fill(self)
        with open(os.path.join(self.mount, "filler"), "ab", buffering=0) as file:
            for _ in range(4):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\xaa" * 4096)
                os.fsync(file.fileno())
        return file.name

    @classmethod
    def setUpClass(cls):
        test_overload.SmallDisk.setUpClass.__func__(cls)

    @classmethod
    def tearDownClass(cls):
        cls.drop()

    def setUp(self):
        self.path = os.path.join(self.mount, "runs.sqlite")
        for name in os.listdir(self.mount):
            if name != "lost+found":
                os.unlink(os.path.join(self.mount, name))

    def ask(self, query):
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as connection:
            return connection.execute(query).fetchall()

    def begin_requests(self, server, numbers):
        """One request on a connection each: runs that need room, and events."""
        waiting = []
        for number in numbers:
            body = run(number, error_details="x" * 60_000)
            connection = server.connect(30)
            connection.send(test_overload.request_bytes("POST", RUNS, json.dumps(body).encode()))
            waiting.append(connection)
        for number in numbers:
            connection = server.connect(30)
            connection.send(test_overload.request_bytes("POST", path_of("e-0", "events"), json.dumps({"event_type": f"x{number}", "payload": {"a": "y" * 5000}}).encode()))
            waiting.append(connection)
        wait_until(lambda: len(server.dump_lines("--kind", "run")) == 1 + 2 * len(numbers))
        return waiting

    def check_all(self, numbers):
        self.assertEqual(sorted(row[0] for row in self.ask("SELECT event_id FROM agent_runs")), sorted(["e-0"] + [f"e-{n}" for n in numbers]))
        self.assertEqual(sorted(row[0] for row in self.ask("SELECT event_type FROM run_events")), sorted(f"x{n}" for n in numbers))

    def test_commands_wait_in_the_log_until_there_is_room(self):
        with Server("--set", f"runs.db={self.path}") as server:
            create(server, 0)
            filler, numbers = self.fill(), list(range(1, 9))
            waiting = self.begin_requests(server, numbers)
            wait_until(lambda: server.get("/healthcheck").status == 503)
            self.assertEqual(server.get("/healthcheck").json()["reason"], "the agent-run database cannot be written")
            self.assertRegex(server.log_text(), "runs_failing.*full")
            self.assertGreater(metric(server, "sluice_runs_errors_total"), 0)
            self.assertGreater(metric(server, "sluice_runs_lag_records"), 0)
            answers = [connection.response() for connection in waiting]  # 10 s
            late = [answer for answer in answers if answer.status == 503]
            self.assertGreater(len(late), 0)
            for answer in late:
                self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
                self.assertIn("stored in the log and will be applied", answer.json()["detail"])
            self.assertLessEqual({answer.status for answer in answers}, {201, 503})
            self.assertEqual(fetch(server, path_of("e-0")).status, 200)
            os.unlink(filler)
            wait_until(lambda: server.get("/healthcheck").status == 200)
            wait_until(lambda: metric(server, "sluice_runs_lag_records") == 0)
            self.check_all(numbers)
            for number in numbers:
                create(server, number, 200)
            self.assertTrue(server.ledger()["balanced"])
            server.stop_clean()
            for connection in waiting:
                connection.close()
            self.assertIn("ok: ", verify("--data-dir", server.data_dir, "--runs-db", self.path))

    def test_starts_and_stops_on_a_full_disk_lose_nothing(self):
        """After kill -9 (with whatever journal was there), and after an orderly stop, which removes the lock file."""
        with Server("--set", f"runs.db={self.path}") as server:
            create(server, 0)
            filler, numbers = self.fill(), list(range(1, 5))
            waiting = self.begin_requests(server, numbers)
            wait_until(lambda: "runs_failing" in server.log_text())
            for end in (server.kill9, server.stop, server.kill9):
                end()
                self.fill()
                server.start()
                wait_until(lambda: server.get("/healthcheck").status == 503)
                self.assertEqual(fetch(server, path_of("e-0")).status, 200)
            os.unlink(filler)
            wait_until(lambda: server.get("/healthcheck").status == 200)
            wait_until(lambda: metric(server, "sluice_runs_lag_records") == 0)
            self.check_all(numbers)
            server.stop_clean()
            for connection in waiting:
                connection.close()

    def test_a_journal_that_a_kill_left_is_rolled_back_without_room(self):
        with Server("--set", f"runs.db={self.path}") as server:
            create(server, 0)
            server.stop()
            writer = ("import os,signal,sqlite3,sys\n"
                      "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                      "c.execute('PRAGMA cache_size=2'); c.execute('BEGIN')\n"
                      "c.execute(\"UPDATE agent_runs SET agent_name='half', error_details=hex(randomblob(30000))\")\n"
                      "os.kill(os.getpid(), signal.SIGKILL)\n")
            subprocess.run(["python3", "-c", writer, self.path], timeout=60, check=False)
            self.assertTrue(os.path.exists(self.path + "-journal"))
            filler = self.fill()
            server.start()
            self.assertEqual(fetch(server, path_of("e-0")).json()["agent_name"], "crawler")
            os.unlink(filler)
            create(server, 1)
            server.stop_clean()

    def test_verify_checks_in_place_where_a_copy_has_no_room(self):
        with Server("--set", f"runs.db={self.path}") as server:
            create(server, 0)
            filler = self.fill()
            said = verify("--data-dir", server.data_dir, "--runs-db", self.path)
            self.assertRegex(said, "twice its size .*checked in place")
            self.assertIn("ok: ", said)
            os.unlink(filler)
            self.assertNotIn("checked in place", verify("--data-dir", server.data_dir, "--runs-db", self.path))
            server.stop_clean()


if __name__ == "__main__":
    unittest.main()
