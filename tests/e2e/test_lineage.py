"""An LSN is never used twice for two records that go upstream: a restored directory, a clone, a log that has lost its end. Real servers
on both sides; the receiver is another Sluice, which drops what it has seen by (stream, LSN). SLUICE_TEST_KILLS sets how often."""
import collections
import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import threading
import time
import unittest

from harness import BINARY, Connection, Server, record, request_bytes, wait_until

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "6"))
SEGMENTS = ["--set", "store.segment_bytes=2M", "--set", "store.batch_bytes=256K", "--set", "server.max_body=256K", "--set", "store.reserve_bytes=1M"]


def sluice(*arguments):
    return subprocess.run([BINARY, *arguments], capture_output=True, timeout=120)


def sink_to(port, name="up", **more):
    settings = {"type": "sluice", "url": f"http://127.0.0.1:{port}", "linger": "5ms", "batch_records": "37", "backoff_min": "10ms",
                "backoff_max": "100ms", "pause_retry": "200ms", **more}
    return [word for key, value in settings.items() for word in ("--set", f"sink.{name}.{key}={value}")]


def settled(server, name="up"):
    """Everything that the log has is delivered."""
    ledger = server.ledger()
    sink = ledger["sinks"][name]
    return sink["pending"] == 0 and sink["in_flight"] == 0 if "in_flight" in sink else sink["pending"] == 0


def write(server, first, count, size=1):
    for at in range(first, first + count, 50):
        numbers = range(at, min(at + 50, first + count))
        answer = server.post("/v1/logs", [record(n, pad="x" * size) for n in numbers])
        assert answer.status == 202, answer


def pour(port, first):
    """Records one by one, until the server is gone."""
    try:
        with Connection(port) as connection:
            for number in range(first, first + 100000):
                connection.send(request_bytes("POST", "/v1/logs", json.dumps(record(number)).encode()))
                if connection.response() is None:
                    return
    except (OSError, AssertionError):
        pass


def applied(server, name, table):
    """How far into the log a database has come."""
    with contextlib.closing(sqlite3.connect(f"file:{server.data_dir}/{name}?mode=ro", uri=True)) as db:
        rows = db.execute(f"SELECT value FROM {table} WHERE key = 'applied_lsn'").fetchall()
        return int(rows[0][0]) if rows else 0


def numbers(server):
    """How often the log has each record."""
    return collections.Counter(int(shown["record"]["message"].split()[1]) for shown in server.dump())


def streams(server):
    """The streams that the receiver's records came in, and the LSNs of each."""
    found = collections.defaultdict(list)
    for shown in server.dump():
        found[shown["origin"]["node"]].append(shown["origin"]["lsn"])
    return found


def lineage(server):
    with open(os.path.join(server.data_dir, "lineage")) as file:
        return file.read().splitlines()


def node_of(server):
    with open(os.path.join(server.data_dir, "node")) as file:
        return file.read().strip()


class Lineage(unittest.TestCase):
    def deliver(self, server, receiver, expected):
        """Each of the records arrives, and none twice."""
        wait_until(lambda: settled(server), 30)
        wait_until(lambda: sum(numbers(receiver).values()) >= len(expected), 20)
        self.assertEqual(numbers(receiver), collections.Counter(expected))
        self.assertTrue(server.ledger()["balanced"])
        self.assertTrue(receiver.ledger()["balanced"])

    def restored(self, server, arguments):
        """A backup is taken now; returns what restores it."""
        backup = os.path.join(server.base, "backup")
        result = sluice("backup", "--data-dir", server.data_dir, "--to", backup)
        self.assertEqual(result.returncode, 0, result.stderr)

        def restore():
            target = os.path.join(server.base, "restored")
            result = sluice("restore", "--from", backup, "--data-dir", target)
            self.assertEqual(result.returncode, 0, result.stderr)
            return Server(*arguments, data_dir=target)
        return restore

    def test_kills_alone_are_no_reason_for_a_lineage(self):
        generator = random.Random(9)
        with Server() as receiver, Server(*sink_to(receiver.port)) as sender:
            for life in range(KILLS):
                write(sender, life * 300, 300)
                writer = threading.Thread(target=pour, args=(sender.port, 100000 + life * 100000))
                writer.start()
                time.sleep(generator.uniform(0.05, 0.5))
                sender.kill9()
                writer.join(30)
                sender.start()
            stored = numbers(sender)
            self.deliver(sender, receiver, stored)
            self.assertGreaterEqual(len(stored), KILLS * 300)
            sender.stop_clean()
            sender.start()
            self.assertFalse(os.path.exists(os.path.join(sender.data_dir, "lineage")))
            self.assertEqual(list(streams(receiver)), [node_of(sender)])

    def test_the_agent_runs_and_the_catalog_are_witnesses_too(self):
        for witness in ("runs.sqlite", "catalog.sqlite"):
            with Server(*SEGMENTS, "--set", "store.segment_age=1s", small=False) as server:
                write(server, 0, 1000, 4000)
                run = {"event_id": "r", "run_id": "r", "agent_name": "a", "job_type": "t", "start_time": "2025-08-25T10:00:00Z"}
                self.assertIn(server.post("/api/v1/runs", run).status, (200, 201))
                table = "meta" if witness == "catalog.sqlite" else "sluice_meta"
                wait_until(lambda: applied(server, witness, table) > 900, 30)
                last = self.lose_the_end(server)
                for name in {"runs.sqlite", "catalog.sqlite"} - {witness}:
                    for end in ("", "-wal", "-shm"):
                        if os.path.exists(os.path.join(server.data_dir, name + end)):
                            os.unlink(os.path.join(server.data_dir, name + end))
                server.start()
                self.assertIn("catalog.sqlite has seen" if witness == "catalog.sqlite" else "the agent-run database has seen",
                              server.log_text())
                self.assertTrue(lineage(server)[2].startswith(f"{last + 1} "))
                server.kill9()
                server.start()  # it is told once
                self.assertEqual(len(lineage(server)), 4)

    def test_what_a_restored_server_writes_arrives_also_after_a_crash_at_its_first_start(self):
        generator = random.Random(8)
        with Server() as receiver, Server(*sink_to(receiver.port)) as sender:
            write(sender, 0, 300)
            self.deliver(sender, receiver, range(300))
            restore = self.restored(sender, sink_to(receiver.port))
            write(sender, 300, 200)
            self.deliver(sender, receiver, range(500))
            sender.stop_clean()
            again = restore()
            self.assertTrue(os.path.exists(os.path.join(again.data_dir, "restored")))
            for _ in range(KILLS):
                again.start(wait=False)
                time.sleep(generator.uniform(0.005, 0.2))
                again.kill9()
            again.start()
            again.kill9()
            with again:
                self.assertFalse(os.path.exists(os.path.join(again.data_dir, "restored")))
                write(again, 1000, 200)
                again.kill9()
                again.start()
                self.deliver(again, receiver, [*range(500), *range(1000, 1200)])
                # the node's own up to the end of the backup's log, one other stream behind it
                found = streams(receiver)
                self.assertEqual(len(found), 2)
                self.assertEqual(sorted(found.pop(node_of(again))), list(range(1, 501)))
                (stream, lsns), = found.items()
                self.assertEqual(sorted(lsns), list(range(301, 501)))
                self.assertEqual(lineage(again)[-2], f"301 {stream}")
                self.assertEqual(again.verify().returncode, 0)
                # the original, if it goes on, is a third one's clone: nothing of it is taken for the copy's
                sender.start()
                write(sender, 2000, 150)
                write(again, 3000, 150)
                self.deliver(sender, receiver, [*range(500), *range(1000, 1200), *range(2000, 2150), *range(3000, 3150)])

    def lose_the_end(self, server):
        """The newest files with records, and all behind them, are gone. Returns the LSN that the log then ends with."""
        log = os.path.join(server.data_dir, "log")
        server.kill9()
        last = server.dump()[-1]["lsn"]
        for name in sorted(os.listdir(log), reverse=True):
            os.unlink(os.path.join(log, name))
            left = server.dump()
            if left and left[-1]["lsn"] < last - 200:
                return left[-1]["lsn"]
        self.fail("too few segments")

    def test_what_comes_after_the_log_lost_its_newest_segments_arrives(self):
        with Server() as receiver, Server(*SEGMENTS, *sink_to(receiver.port), small=False) as sender:
            expected, before = set(), node_of(sender)
            for life in range(3):
                numbers_now = range(life * 10000, life * 10000 + 1000)
                write(sender, numbers_now[0], 1000, 4000)
                expected |= set(numbers_now)
                self.deliver(sender, receiver, expected)
                last = self.lose_the_end(sender)
                sender.start()
                self.assertEqual(len(re.findall(r'\blineage\b.*the log ends with LSN (\d+), but', sender.log_text())), 1,
                                 sender.log_text())
                self.assertIn(f"from LSN {last + 1} on", sender.log_text())
                write(sender, numbers_now[0] + 5000, 700, 4000)
                expected |= set(range(numbers_now[0] + 5000, numbers_now[0] + 5700))
                if life == 1:
                    sender.kill9()
                    sender.start()
                self.deliver(sender, receiver, expected)
                self.assertEqual(len(streams(receiver)), life + 2)
            self.assertIn(before, streams(receiver))

    def test_what_was_frozen_and_unsent_when_the_end_was_lost_is_sent_as_far_as_it_is_there(self):
        with Server(*SEGMENTS, *sink_to(1), small=False) as sender:
            write(sender, 0, 1000, 4000)
            wait_until(lambda: sender.ledger()["sinks"]["up"]["pending"] == 1000, 20)
            last = self.lose_the_end(sender)
            left = set(numbers(sender))
            with Server() as receiver:
                sender.arguments = [*SEGMENTS, *sink_to(receiver.port)]
                sender.start()
                write(sender, 5000, 300)
                self.deliver(sender, receiver, left | set(range(5000, 5300)))
                self.assertLessEqual(len(left), last)

    def test_a_sink_that_was_not_there_when_the_end_was_lost_starts_where_it_must(self):
        with Server() as receiver, Server(*SEGMENTS, *sink_to(receiver.port), small=False) as sender:
            write(sender, 0, 1000, 4000)
            self.deliver(sender, receiver, range(1000))
            last = self.lose_the_end(sender)
            arguments, sender.arguments = sender.arguments, SEGMENTS
            sender.start()
            write(sender, 5000, 1500, 4000)  # beyond where the sink stood
            self.assertGreater(sender.dump()[-1]["lsn"], 1000)
            sender.stop_clean()
            sender.start()
            self.assertNotIn("the log ends with", sender.log_text())
            sender.stop_clean()
            sender.arguments = arguments
            sender.start()
            self.deliver(sender, receiver, [*range(1000), *range(5000, 6500)])
            self.assertEqual(len(lineage(sender)), 4)
            self.assertTrue(lineage(sender)[2].startswith(f"{last + 1} "))

    def test_a_copy_that_is_marked_by_hand_is_a_stream_of_its_own(self):
        with Server() as receiver, Server(*sink_to(receiver.port)) as sender:
            write(sender, 0, 100)
            self.deliver(sender, receiver, range(100))
            sender.stop_clean()
            target = os.path.join(sender.base, "copy")
            shutil.copytree(sender.data_dir, target)
            open(os.path.join(target, "restored"), "w").close()
            sender.start()
            with Server(*sink_to(receiver.port), data_dir=target) as copy:
                write(sender, 1000, 100)
                write(copy, 2000, 100)
                wait_until(lambda: settled(copy), 30)
                self.deliver(sender, receiver, [*range(100), *range(1000, 1100), *range(2000, 2100)])

    def test_both_directions_give_back_what_was_lost_and_nothing_goes_round(self):
        with Server() as one, Server() as other:
            for server in (one, other):
                server.stop_clean()
            for server, peer in ((one, other), (other, one)):
                server.arguments += ["--listen", f"127.0.0.1:{server.port}", *sink_to(peer.port)]
            for server in (one, other):
                server.start()
            write(one, 0, 200)
            write(other, 1000, 200)
            wait_until(lambda: len(numbers(one)) == len(numbers(other)) == 400, 30)
            restore = self.restored(one, one.arguments)
            write(one, 2000, 100)
            wait_until(lambda: len(numbers(other)) == 500, 30)
            one.stop_clean()
            with restore() as again:
                write(again, 3000, 100)
                write(other, 4000, 100)
                expected = collections.Counter([*range(200), *range(1000, 1200), *range(2000, 2100), *range(3000, 3100),
                                                *range(4000, 4100)])
                wait_until(lambda: len(numbers(other)) == 700, 30)
                wait_until(lambda: settled(again) and settled(other), 30)
                self.assertEqual(numbers(other), expected)
                # what is behind the place where `other` stood comes; what it had delivered before comes by a replay
                result = sluice("replay", "--data-dir", other.data_dir, "--to", f"http://127.0.0.1:{again.port}", "--type", "sluice")
                self.assertEqual(result.returncode, 0, result.stderr)
                wait_until(lambda: len(numbers(again)) == 700, 30)
                wait_until(lambda: settled(again) and settled(other), 30)
                self.assertEqual(numbers(again), expected)
                self.assertEqual(numbers(other), expected)

    def test_whatever_is_restored_or_lost_in_whatever_order(self):
        seed = int(os.environ.get("SLUICE_TEST_SEED", random.randrange(1 << 32)))
        choose = random.Random(seed)
        with self.subTest(f"SLUICE_TEST_SEED={seed}"), Server() as receiver:
            arguments = [*SEGMENTS, *sink_to(receiver.port)]
            server = home = Server(*arguments, small=False)
            self.addCleanup(lambda: home.__exit__())
            server.start()
            backups, written = [], 0
            for turn in range(2 * KILLS):
                count = choose.randrange(1, 900)
                write(server, written, count, choose.choice([10, 3000]))
                written += count
                if choose.random() < 0.7:
                    wait_until(lambda: settled(server), 30)
                what = choose.choice(["backup", "restore", "restore", "lose", "kill", "stop"])
                if what == "backup" or not backups:
                    backups.append(os.path.join(home.base, f"backup{turn}"))
                    result = sluice("backup", "--data-dir", server.data_dir, "--to", backups[-1])
                    self.assertEqual(result.returncode, 0, result.stderr)
                elif what == "restore":
                    server.kill9()
                    target = os.path.join(home.base, f"restored{turn}")
                    result = sluice("restore", "--from", choose.choice(backups), "--data-dir", target)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    server = Server(*arguments, data_dir=target, small=False)
                    self.addCleanup(lambda server=server: server.__exit__())
                    server.start()
                elif what == "lose":
                    server.kill9()
                    log = os.path.join(server.data_dir, "log")
                    for name in sorted(os.listdir(log))[-choose.randrange(2, 5):]:
                        os.unlink(os.path.join(log, name))
                    server.start()
                elif what == "kill":
                    server.kill9()
                    server.start()
                else:
                    server.stop_clean()
                    server.start()
                # an LSN has one record, and a record one LSN
                here = numbers(server)
                self.assertEqual([n for n, times in here.items() if times > 1], [])
            wait_until(lambda: settled(server), 30)
            there = numbers(receiver)
            self.assertEqual([n for n, times in there.items() if times > 1], [])
            self.assertEqual(set(numbers(server)) - set(there), set())
            self.assertEqual(receiver.verify().returncode, 0)
            server.stop_clean()

    def test_a_replay_speaks_in_the_streams_of_its_records(self):
        with Server() as receiver, Server() as sender:
            write(sender, 0, 60)
            restore = self.restored(sender, [])
            sender.stop_clean()
            with restore() as again:
                write(again, 1000, 70)
                replay = ["replay", "--data-dir", again.data_dir, "--to", f"http://127.0.0.1:{receiver.port}", "--type", "sluice"]
                result = sluice(*replay)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(numbers(receiver), collections.Counter([*range(60), *range(1000, 1070)]))
                found = streams(receiver)
                self.assertEqual(found.pop(node_of(again)), list(range(1, 61)))
                self.assertEqual(list(found.values()), [list(range(61, 131))])

    def test_a_backup_has_the_lineage_and_what_came_from_others(self):
        node = "01J8ZZZZZZZZZZZZZZZZZZZZZA"
        lines = "\n".join(json.dumps({"id": f"01J8ZZZZZZZZZZZZZZZZZZZZ{n:02d}", "lsn": n, "kind": "log",
                                      "received_at": "2025-08-25T10:00:01.123456Z", "record": record(n)}) for n in range(10, 40))
        fields = {"Sluice-Node": node, "Sluice-Range": "1-50"}
        with Server() as receiver, Server() as sender:
            sender.post("/v1/replicate", lines.encode(), fields)
            sender.stop_clean()
            open(os.path.join(sender.data_dir, "restored"), "w").close()
            sender.start()
            self.assertEqual(len(lineage(sender)), 4)
            write(sender, 1000, 50)
            with self.restored(sender, sink_to(receiver.port))() as again:
                self.assertTrue(os.path.exists(os.path.join(again.data_dir, "origins")))
                self.assertEqual(lineage(again)[2], lineage(sender)[2])
                self.assertEqual(len(lineage(again)), 5)
                answer = again.post("/v1/replicate", lines.encode(), fields)
                self.assertEqual((answer.json()["accepted"], answer.json()["duplicates"]), (0, 30))
                write(again, 2000, 50)
                wait_until(lambda: sum(numbers(receiver).values()) >= 130, 30)
                wait_until(lambda: settled(again), 30)
                self.assertEqual(numbers(receiver), collections.Counter([*range(10, 40), *range(1000, 1050), *range(2000, 2050)]))
                self.assertEqual(sorted(len(lsns) for lsns in streams(receiver).values()), [30, 50, 50])

    def test_a_lineage_that_cannot_be_believed_or_is_gone_stops_the_start(self):
        with Server() as receiver, Server(*sink_to(receiver.port)) as sender:
            sender.stop_clean()
            open(os.path.join(sender.data_dir, "restored"), "w").close()
            sender.start()
            write(sender, 0, 50)
            self.deliver(sender, receiver, range(50))
            sender.stop_clean()
            path = os.path.join(sender.data_dir, "lineage")
            with open(path, "rb") as file:
                good = file.read()
            for spoiled in (good[:-1], good.replace(b"\n1 ", b"\n2 "), b"", None):
                os.unlink(path)
                if spoiled is not None:
                    with open(path, "wb") as file:
                        file.write(spoiled)
                sender.start(wait=False)
                self.assertEqual(sender.process.wait(20), 1)
                wait_until(lambda: sender.process.stderr.closed)
                self.assertIn("from a backup", sender.log_text())
                self.assertEqual(sender.verify().returncode, 1 if spoiled is not None else 0)
                with open(path, "wb") as file:
                    file.write(good)
            sender.start()
            write(sender, 50, 50)
            self.deliver(sender, receiver, range(100))


if __name__ == "__main__":
    unittest.main()
