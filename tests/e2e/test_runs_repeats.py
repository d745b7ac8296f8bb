"""Idempotency-Key on the routes of agent runs: a repeat gets the first answer again, whatever it was and whatever has happened since."""
import contextlib
import http.client
import os
import sqlite3
import unittest
import urllib.parse

from harness import Response, Server, encode, request_bytes, wait_until

RUNS = "/api/v1/runs"


def run(event_id, **more):
    return {"event_id": event_id, "run_id": f"run of {event_id}", "start_time": "2026-01-10T10:00:00Z", "agent_name": "a", "job_type": "j", **more}


def path_of(event_id, *rest):
    return "/".join([RUNS, urllib.parse.quote(event_id, safe=""), *rest])


def ask(server, method, path, body, key=None):
    """By a library: a large answer comes in chunks, which it undoes."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(method, path, encode(body), {} if key is None else {"Idempotency-Key": key})
        response = connection.getresponse()
        return Response(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def database(server):
    return os.path.join(server.data_dir, "runs.sqlite")


def tables(server):
    """Everything that commands have made."""
    with contextlib.closing(sqlite3.connect(database(server), timeout=10)) as connection:
        return [connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in ("agent_runs", "run_events", "sluice_run_outcomes")]


COMMIT = {"commit_hash": "abcdef1", "commit_source": "ci"}
EVENT = {"event_type": "step \"1\""}
LONG = "long \u20ac\n" * 40_000
# In this order, each under a key of its own: the request, the status of its first answer, and what that answer says.
CASES = [
    ("POST", RUNS, run("a"), 201, {"status": "created", "event_id": "a", "run_id": "run of a"}),
    ("POST", RUNS, run("a"), 200, {"status": "duplicate", "event_id": "a", "message": "Event already exists (idempotent)"}),
    ("POST", RUNS, run("long", run_id=LONG), 201, {"status": "created", "event_id": "long", "run_id": LONG}),
    ("POST", f"{RUNS}/batch", [run("b"), run("a"), run("b"), run("c", items_failed=-1), run("d")], 200,
     {"inserted": 2, "duplicates": 2, "errors": ["c: Value must be non-negative: items_failed"], "total": 5}),
    ("POST", f"{RUNS}/batch", {"runs": [run("d"), run("e")]}, 201, {"status": "created", "inserted": 1, "duplicates": 1, "errors": [], "total": 2}),
    ("POST", f"{RUNS}/batch", [run("a"), run("b")], 200, {"inserted": 0, "duplicates": 2, "errors": [], "total": 2}),
    ("PATCH", path_of("a"), {"end_time": "x", "status": "completed", "duration_ms": 5}, 200,
     {"event_id": "a", "updated": True, "fields_updated": ["end_time", "status", "duration_ms"]}),
    ("PATCH", path_of("a"), {"nothing": "known"}, 400, {"detail": "No valid fields to update"}),
    ("PATCH", path_of("late"), {"duration_ms": 5}, 404, {"detail": "Run not found: late"}),
    ("PATCH", path_of("late"), {}, 404, {"detail": "Run not found: late"}),
    ("POST", path_of("a", "associate-commit"), COMMIT, 200, {"status": "success", "event_id": "a", "run_id": "run of a", "commit_hash": "abcdef1"}),
    ("POST", path_of("long", "associate-commit"), COMMIT, 200, {"status": "success", "event_id": "long", "run_id": LONG, "commit_hash": "abcdef1"}),
    ("POST", path_of("late", "associate-commit"), COMMIT, 404, {"detail": "Run not found: late"}),
    ("POST", path_of("a", "events"), EVENT, 201, {"status": "created", "event_id": "a", "event_type": "step \"1\""}),
    ("POST", path_of("late", "events"), EVENT, 404, {"detail": "Run not found: late"}),
    # From here on that run is there, and what was answered before is not taken back.
    ("POST", RUNS, run("late"), 201, {"status": "created", "event_id": "late", "run_id": "run of late"}),
    ("PATCH", path_of("late"), {"duration_ms": 5}, 200, {"event_id": "late", "updated": True, "fields_updated": ["duration_ms"]}),
]


class Repeats(unittest.TestCase):
    def first(self, server):
        answers = []
        for n, (method, path, body, status, told) in enumerate(CASES):
            answer = ask(server, method, path, body, f"key-{n}")
            self.assertEqual((answer.status, answer.json()), (status, told), f"{method} {path}")
            self.assertNotIn("x-sluice-duplicate", answer.headers)
            answers.append(answer)
        return answers

    def again(self, server, answers):
        """Each repeat has its first answer's bytes, and nothing is stored."""
        commands = len(server.dump("--kind", "run"))
        for n, ((method, path, body, *_), first) in enumerate(zip(CASES, answers)):
            answer = ask(server, method, path, body, f"key-{n}")
            with self.subTest(case=n, request=f"{method} {path}"):
                self.assertEqual((answer.status, answer.body[:300]), (first.status, first.body[:300]))
                self.assertEqual(answer.body, first.body)
                self.assertEqual(answer.headers.get("x-sluice-duplicate"), "true")
                self.assertEqual(answer.headers.get("x-sluice-ack"), first.headers.get("x-sluice-ack"))
                self.assertEqual(answer.headers["content-type"], first.headers["content-type"])
        self.assertEqual(len(server.dump("--kind", "run")), commands)

    def test_each_route_gives_its_first_answer_again_after_all_that_can_happen(self):
        with Server() as server:
            answers = self.first(server)
            made = tables(server)
            self.again(server, answers)
            server.stop_clean()
            server.start()
            self.again(server, answers)
            server.kill9()
            server.start()
            self.again(server, answers)
            server.kill9()
            os.unlink(database(server))
            server.start()
            self.again(server, answers)
            self.assertEqual(tables(server), made)

    def test_only_what_does_not_follow_is_kept_and_only_of_keyed_commands(self):
        with Server() as server:
            self.first(server)
            for method, path, body, *_ in CASES:  # without a key
                ask(server, method, path, body)
            with contextlib.closing(sqlite3.connect(database(server), timeout=10)) as connection:
                kept = connection.execute("SELECT count(*), count(text) FROM sluice_run_outcomes").fetchone()
            duplicates = sum(told.get("duplicates", 0) for *_, told in CASES) + sum(told.get("status") == "duplicate" for *_, told in CASES)
            self.assertEqual(kept, (duplicates + sum(status >= 400 for *_, status, _ in CASES), 0))

    def test_a_key_stands_for_one_request(self):
        with Server() as server:
            for event_id in ("a", "b"):
                ask(server, "POST", RUNS, run(event_id))
            body = {"event_type": "x", "duration_ms": 1, **COMMIT}
            self.assertEqual(ask(server, "PATCH", path_of("a"), body, "one").status, 200)
            for method, path in (("PATCH", path_of("b")), ("POST", path_of("a", "events")), ("POST", path_of("a", "associate-commit"))):
                answer = ask(server, method, path, body, "one")
                self.assertEqual((answer.status, "x-sluice-duplicate" in answer.headers), (422, False), answer)
            self.assertEqual(ask(server, "PATCH", f"{RUNS}/%61", body, "one").headers.get("x-sluice-duplicate"), "true")  # the same run, otherwise written
            both = {**run("c"), "runs": [run("d")]}
            self.assertEqual(ask(server, "POST", RUNS, both, "two").status, 201)
            self.assertEqual(ask(server, "POST", f"{RUNS}/batch", both, "two").status, 422)
            log = {**run("l"), "timestamp": "2026-01-10T10:00:00Z", "service": "s", "level": "INFO", "message": "m"}
            self.assertEqual(ask(server, "POST", "/v1/logs", log, "three").status, 202)
            self.assertEqual(ask(server, "POST", RUNS, log, "three").status, 422)

    def test_what_the_database_refuses_is_refused_again(self):
        with Server() as server:
            ask(server, "POST", RUNS, run("a"))
            server.stop_clean()
            with contextlib.closing(sqlite3.connect(database(server))) as connection:
                for event in ("INSERT", "UPDATE"):
                    connection.execute(f"CREATE TRIGGER no_{event} BEFORE {event} ON agent_runs WHEN new.host = 'bad' OR new.end_time = 'bad' "
                                       "BEGIN SELECT RAISE(ABORT, 'not \"this\" one'); END")
            server.start()
            requests = [("POST", RUNS, run("b", host="bad")), ("PATCH", path_of("a"), {"end_time": "bad"}),
                        ("POST", f"{RUNS}/batch", [run("c", host="bad"), run("d"), run("e", items_failed=-1), run("\u20ac\"", host="bad"), run("a")])]
            firsts = [ask(server, *request, f"key-{n}") for n, request in enumerate(requests)]
            self.assertEqual([(first.status, first.json()) for first in firsts],
                             [(400, {"detail": "not \"this\" one"})] * 2 + [(200, {
                                 "inserted": 1, "duplicates": 1, "total": 5,
                                 "errors": ["e: Value must be non-negative: items_failed", "c: not \"this\" one", "\u20ac\": not \"this\" one"]})])
            with contextlib.closing(sqlite3.connect(database(server), timeout=10)) as connection:
                connection.execute("DROP TRIGGER no_INSERT")
                connection.execute("DROP TRIGGER no_UPDATE")
            for restart in (False, True):
                if restart:
                    server.kill9()
                    server.start()
                for n, (request, first) in enumerate(zip(requests, firsts)):
                    answer = ask(server, *request, f"key-{n}")
                    self.assertEqual((answer.status, answer.body, answer.headers.get("x-sluice-duplicate")), (first.status, first.body, "true"))

    def test_of_a_large_batch_every_duplicate_and_error_is_counted(self):
        with Server() as server:
            ask(server, "POST", f"{RUNS}/batch", [run(f"e{i}") for i in range(0, 6000, 2)])
            batch = [run(f"e{i}", items_failed=-(i % 100 == 99)) for i in range(6000)]
            first = ask(server, "POST", f"{RUNS}/batch", batch, "large")
            told = first.json()
            self.assertEqual((told["inserted"], told["duplicates"], len(told["errors"]), told["total"]), (2940, 3000, 60, 6000))
            for _ in range(2):
                answer = ask(server, "POST", f"{RUNS}/batch", batch, "large")
                self.assertEqual((answer.body, answer.headers.get("x-sluice-duplicate")), (first.body, "true"))
                server.kill9()
                os.unlink(database(server))
                server.start()

    def test_a_repeat_that_comes_before_the_database_has_it_is_told_to_ask_again(self):
        with Server() as server:
            ask(server, "POST", RUNS, run("a"))
            with contextlib.closing(sqlite3.connect(database(server), isolation_level=None)) as holder, server.connect(timeout=30) as waiting:
                holder.execute("BEGIN")
                holder.execute("SELECT count(*) FROM agent_runs").fetchone()  # a reader who does not let go: no commit
                durable = server.ledger()["records"]["durable"]
                waiting.send(request_bytes("POST", RUNS, encode(run("a")), {"Idempotency-Key": "one"}))
                wait_until(lambda: server.ledger()["records"]["durable"] == durable + 1)
                early = ask(server, "POST", RUNS, run("a"), "one")
                self.assertEqual((early.status, "x-sluice-duplicate" in early.headers), (503, False))
                self.assertIn("retry-after", early.headers)
                holder.execute("COMMIT")
                first = waiting.response()
            self.assertEqual((first.status, first.json()["status"]), (200, "duplicate"))
            answer = ask(server, "POST", RUNS, run("a"), "one")
            self.assertEqual((answer.status, answer.body, answer.headers.get("x-sluice-duplicate")), (200, first.body, "true"))

    def test_repeats_on_one_connection_are_answered_in_their_order(self):
        with Server() as server:
            answers = self.first(server)
            short = [n for n, (*_, told) in enumerate(CASES) if told.get("event_id") != "long"]
            with server.connect(timeout=30) as connection:
                connection.send(b"".join(request_bytes(CASES[n][0], CASES[n][1], encode(CASES[n][2]), {"Idempotency-Key": f"key-{n}"}) for n in short))
                got = [connection.response() for _ in short]
            self.assertEqual([(answer.status, answer.body) for answer in got], [(answers[n].status, answers[n].body) for n in short])

    def test_who_leaves_before_the_answer_of_a_repeat_costs_nothing(self):
        with Server() as server:
            answers = self.first(server)
            for n in range(400):
                method, path, body, *_ = CASES[n % len(CASES)]
                with server.connect() as connection:
                    connection.send(request_bytes(method, path, encode(body), {"Idempotency-Key": f"key-{n % len(CASES)}"}))
            self.again(server, answers)
            server.stop_clean()


class Associate(unittest.TestCase):
    def test_the_answer_has_the_run_id_whole_whatever_its_length(self):
        with Server() as server:
            for length in (1, 511, 512, 513, 65_500, 70_000, 600_000):
                run_id = ("r\u00e9\"\n" * length)[:length]
                ask(server, "POST", RUNS, run(f"e{length}", run_id=run_id))
                answer = ask(server, "POST", path_of(f"e{length}", "associate-commit"), COMMIT)
                self.assertEqual((answer.status, answer.headers.get("x-sluice-ack"), "x-sluice-duplicate" in answer.headers), (200, "durable", False))
                self.assertEqual(list(answer.json()), ["status", "event_id", "run_id", "commit_hash"])
                self.assertTrue(answer.json()["run_id"] == run_id, length)


class NamedBatch(unittest.TestCase):
    def test_a_run_named_batch_is_a_run_as_any_other(self):
        with Server() as server:
            self.assertEqual(ask(server, "GET", f"{RUNS}/batch", b"").json(), {"detail": "Run not found: batch"})
            self.assertEqual(ask(server, "PATCH", f"{RUNS}/batch", {"duration_ms": 5}).status, 404)
            self.assertEqual(ask(server, "POST", RUNS, run("batch", git_repo="https://github.com/a/b")).status, 201)
            self.assertEqual(ask(server, "PATCH", f"{RUNS}/batch", {"duration_ms": 5}).json(), {"event_id": "batch", "updated": True, "fields_updated": ["duration_ms"]})
            self.assertEqual(ask(server, "POST", f"{RUNS}/batch/associate-commit", COMMIT).status, 200)
            self.assertEqual(ask(server, "POST", f"{RUNS}/batch/events", EVENT).status, 201)
            item = ask(server, "GET", f"{RUNS}/batch", b"").json()
            self.assertEqual((item["run_id"], item["duration_ms"], item["commit_url"]), ("run of batch", 5, "https://github.com/a/b/commit/abcdef1"))
            self.assertEqual(server.request("HEAD", f"{RUNS}/batch").status, 200)
            self.assertEqual(ask(server, "POST", f"{RUNS}/batch", [run("b")]).json()["inserted"], 1)
            for method in ("PUT", "DELETE"):
                answer = server.request(method, f"{RUNS}/batch")
                self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD, POST, PATCH, OPTIONS"))
            self.assertEqual(server.request("OPTIONS", f"{RUNS}/batch").headers["allow"], "GET, HEAD, POST, PATCH, OPTIONS")


if __name__ == "__main__":
    unittest.main()
