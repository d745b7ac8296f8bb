"""Agent runs, end to end: what an answer promises (in the log and in the database), whoever else uses the file, whenever the server dies."""
import http.client
import json
import os
import random
import sqlite3
import threading
import time
import unittest
import urllib.parse

from harness import Server, encode, record, request_bytes, wait_until

RUNS = "/api/v1/runs"


def run(event_id, **more):
    return {"event_id": event_id, "run_id": f"r-{event_id}", "start_time": "2026-01-31T12:00:00Z", "agent_name": "e2e",
            "job_type": "test", **more}


def database(server):
    return os.path.join(server.data_dir, "runs.sqlite")


def rows(server, sql, *values):
    """What the file says to anybody who opens it."""
    with sqlite3.connect(database(server), timeout=10) as db:
        found = db.execute(sql, values).fetchall()
    db.close()
    return found


def get_large(server, path):
    """An answer that may come in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    told = json.loads(answer.read())
    connection.close()
    return told


def balanced(server):
    ledger = server.ledger()
    return ledger["balanced"] and ledger["records"]["pending"] == 0


class Routes(unittest.TestCase):
    def test_an_answer_means_the_row_is_there_for_everybody(self):
        with Server() as server:
            for n in range(20):
                answer = server.post(RUNS, run(f"e{n}"))
                self.assertEqual((answer.status, answer.json()), (201, {"status": "created", "event_id": f"e{n}", "run_id": f"r-e{n}"}))
                self.assertEqual(answer.headers["x-sluice-ack"], "durable")
                self.assertEqual(rows(server, "SELECT run_id FROM agent_runs WHERE event_id=?", f"e{n}"), [(f"r-e{n}",)])
            self.assertEqual(len(server.dump("--kind", "run")), 20)
            self.assertTrue(balanced(server))
            server.stop_clean()

    def test_event_id_may_hold_what_a_path_may_not(self):
        ids = ["a/b", "ä ö", "50%", "?x=1#y", "..", "a+b", '"quoted"', "x" * 1024]
        with Server() as server:
            for event_id in ids:
                path = f"{RUNS}/{urllib.parse.quote(event_id, safe='')}"
                self.assertEqual(server.post(RUNS, run(event_id)).status, 201, event_id)
                self.assertEqual(server.get(path).json()["event_id"], event_id)
                self.assertEqual(server.request("PATCH", path, {"end_time": "t"}).json(),
                                 {"event_id": event_id, "updated": True, "fields_updated": ["end_time"]})
                self.assertEqual(server.get(path).json()["end_time"], "t")
            self.assertEqual(server.get(f"{RUNS}/a+b").json()["event_id"], "a+b")  # in a path it is itself
            self.assertEqual(server.request("PATCH", f"{RUNS}/a+b", {"end_time": "u"}).json()["event_id"], "a+b")
            for path in ("%00", "a%00b", "%zz", "x" * 1025, "%ff"):
                self.assertEqual(server.get(f"{RUNS}/{path}").status, 404, path)
                for method, tail, body in (("PATCH", "", {"end_time": "t"}), ("POST", "/events", {"event_type": "x"}),
                                           ("POST", "/associate-commit", {"commit_hash": "abcdef1", "commit_source": "ci"})):
                    answer = server.request(method, f"{RUNS}/{path}{tail}", body)
                    self.assertEqual(answer.status, 404, (method, path))
                    self.assertTrue(answer.json()["detail"].startswith("Run not found: "))
            self.assertTrue(balanced(server))
            server.stop_clean()

    def test_reads_answer_head_and_say_how_much(self):
        with Server() as server:
            server.post(RUNS, run("e"))
            for path in (RUNS, f"{RUNS}/e", f"{RUNS}/e/commit-url", "/api/v1/metadata", "/health"):
                whole = server.get(path)
                head = server.request("HEAD", path)
                self.assertEqual((head.status, whole.status), (200, 200), path)
                self.assertEqual(int(head.headers["content-length"]), len(whole.body), path)
            self.assertEqual(server.request("DELETE", f"{RUNS}/e").headers["allow"], "GET, HEAD, PATCH, OPTIONS")

    def test_metrics_speak_the_dialect_that_is_asked_for(self):
        with Server() as server:
            server.post(f"{RUNS}/batch", [run("a"), run("b", agent_name="other"), run("c")])
            told = server.get("/metrics", {"Accept": "application/json"}).json()
            self.assertEqual((told["total_runs"], list(told["agents"].items()), told["recent_24h"]), (3, [("e2e", 2), ("other", 1)], 3))
            text = server.get("/metrics").body.decode()
            self.assertIn('sluice_runs_commands_total{outcome="created"} 3\n', text)
            self.assertIn("sluice_runs_stored 3\n", text)
            self.assertEqual(server.get("/metrics", {"Accept": "text/html,application/json"}).headers["content-type"].split(";")[0], "text/plain")

    def test_large_values_and_large_batches_come_back_whole(self):
        with Server("--set", "server.max_body=8M", "--set", "store.segment_bytes=32M") as server:
            big = "\u20ac\n\"x" * 250_000
            self.assertEqual(server.post(RUNS, run("big", run_id=big, error_details=big)).json()["run_id"], big)
            self.assertEqual(get_large(server, f"{RUNS}/big")["error_details"], big)
            batch = [run(f"n{n}") for n in range(10_000)] + [run("n5"), run("bad", items_failed=-1)]
            answer = server.post(f"{RUNS}/batch", {"runs": batch})
            self.assertEqual(answer.status, 201)
            self.assertEqual(answer.json(), {"status": "created", "inserted": 10_000, "duplicates": 1, "total": 10_002,
                                             "errors": ["bad: Value must be non-negative: items_failed"]})
            listed = [item["event_id"] for offset in range(0, 11_000, 1000) for item in get_large(server, f"{RUNS}?limit=1000&offset={offset}")]
            self.assertEqual((len(listed), len(set(listed))), (10_001, 10_001))
            self.assertTrue(balanced(server))
            server.stop_clean()

    def test_a_batch_with_one_wrong_element_leaves_nothing(self):
        with Server() as server:
            answer = server.post(f"{RUNS}/batch", [run("a"), run("b", status="nonsense"), {"event_id": 1}])
            self.assertEqual(answer.status, 422)
            self.assertIn(["body", 1, "status"], [issue["loc"] for issue in answer.json()["detail"]])
            self.assertEqual((server.get(RUNS).json(), server.dump("--kind", "run")), ([], []))
            self.assertTrue(balanced(server))

    def test_scopes_and_other_rules_of_ingest_hold(self):
        with Server() as server:
            tokens = os.path.join(server.base, "tokens")
            with open(os.open(tokens, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
                file.write("w WWWWWWWWWWWWWWWW ingest\nr RRRRRRRRRRRRRRRR read\n")
            server.stop()
            server.arguments += ["--set", "auth.enabled=true", "--set", f"auth.tokens={tokens}"]
            server.start()
            writes, reads = ({"Authorization": f"Bearer {letter * 16}"} for letter in "WR")
            self.assertEqual(server.post(RUNS, run("e")).status, 401)
            self.assertEqual(server.post(RUNS, run("e"), reads).status, 403)
            self.assertEqual(server.post(RUNS, run("e"), writes).status, 201)
            self.assertEqual(server.request("PATCH", f"{RUNS}/e", {"end_time": "t"}, reads).status, 403)
            self.assertEqual(server.request("PATCH", f"{RUNS}/e", {"end_time": "t"}, writes).status, 200)
            self.assertEqual((server.get(f"{RUNS}/e", writes).status, server.get(f"{RUNS}/e", reads).status), (403, 200))
            self.assertEqual((server.get("/health").status, server.get("/api/v1/metadata").status), (200, 401))


class Order(unittest.TestCase):
    def test_pipelined_requests_of_all_kinds_are_answered_in_their_order(self):
        with Server() as server, server.connect(60) as connection:
            sent = []
            for n in range(60):
                kind = n % 4
                if kind == 0:
                    sent.append((request_bytes("POST", RUNS, encode(run(f"e{n}"))), 201, f'"event_id":"e{n}"'))
                elif kind == 1:
                    sent.append((request_bytes("POST", "/v1/logs", encode(record(n))), 202, '"lsn"'))
                elif kind == 2:
                    sent.append((request_bytes("GET", f"{RUNS}/e{n - 2}"), 200, f'"run_id":"r-e{n - 2}"'))
                else:
                    sent.append((request_bytes("PATCH", f"{RUNS}/e{n - 3}", encode({"end_time": f"t{n}"})), 200, f'"event_id":"e{n - 3}"'))
            connection.send(b"".join(data for data, _, _ in sent))
            for _, status, part in sent:
                answer = connection.response()
                self.assertEqual(answer.status, status, answer)
                self.assertIn(part, answer.body.decode())
            self.assertTrue(balanced(server))
            server.stop_clean()

    def test_of_many_who_create_the_same_run_exactly_one_does(self):
        with Server("--set", "server.shards=2") as server:
            answers, lock = {}, threading.Lock()

            def create(seed):
                order = list(range(50))
                random.Random(seed).shuffle(order)
                with server.connect(60) as connection:
                    for n in order:
                        connection.send(request_bytes("POST", RUNS, encode(run(f"e{n}", agent_name=f"by-{seed}"))))
                        answer = connection.response()
                        with lock:
                            answers.setdefault(n, []).append((answer.status, seed))

            threads = [threading.Thread(target=create, args=(seed,)) for seed in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            for n, told in answers.items():
                self.assertEqual(sorted(status for status, _ in told), [200] * 15 + [201], n)
                winner = next(seed for status, seed in told if status == 201)
                self.assertEqual(rows(server, "SELECT agent_name FROM agent_runs WHERE event_id=?", f"e{n}"), [(f"by-{winner}",)])
            self.assertEqual(len(answers), 50)
            self.assertTrue(balanced(server))
            server.stop_clean()


class Keys(unittest.TestCase):
    def test_a_repeat_gets_the_first_answer_and_stores_nothing(self):
        key = {"Idempotency-Key": "one"}
        with Server() as server:
            first = server.post(RUNS, run("e"), key)
            for _ in range(2):
                again = server.post(RUNS, run("e"), key)
                self.assertEqual((again.status, again.body, again.headers.get("x-sluice-duplicate")), (201, first.body, "true"))
                server.kill9()
                server.start()
            self.assertEqual(server.post(RUNS, run("f"), key).status, 422)
            self.assertEqual([line["record"]["event_id"] for line in server.dump("--kind", "run")], ["e"])
            self.assertEqual(server.post(RUNS, run("f"), {"Idempotency-Key": "b\u00e4d".encode().decode("latin-1")}).status, 422)
            self.assertTrue(balanced(server))

    def test_a_batch_is_stored_once_under_its_key(self):
        batch = [run("a"), run("b"), run("c", items_failed=-1)]
        told = {"inserted": 2, "duplicates": 0, "errors": ["c: Value must be non-negative: items_failed"], "total": 3}
        with Server() as server:
            for turn in range(3):
                answer = server.post(f"{RUNS}/batch", batch, {"Idempotency-Key": "two"})
                self.assertEqual((answer.status, answer.json()), (200, told))
                self.assertEqual("x-sluice-duplicate" in answer.headers, turn != 0)
            self.assertEqual(len(server.dump("--kind", "run")), 2)
            self.assertTrue(balanced(server))


class Outsiders(unittest.TestCase):
    def test_who_locks_the_file_delays_answers_and_loses_nothing(self):
        with Server() as server:
            server.post(RUNS, run("before"))
            outside = sqlite3.connect(database(server), isolation_level=None)
            outside.execute("BEGIN EXCLUSIVE")
            answer = server.post(RUNS, run("meanwhile"))  # 10 s
            self.assertEqual(answer.status, 503)
            self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
            self.assertIn("stored in the log and will be applied", answer.json()["detail"])
            read = server.get(f"{RUNS}/before")
            self.assertEqual((read.status, "retry-after" in read.headers), (503, True))
            self.assertEqual(server.get("/healthcheck").status, 200)
            busy = [line for line in server.get("/metrics").body.decode().splitlines() if line.startswith("sluice_runs_busy_seconds ")]
            self.assertGreater(float(busy[0].split()[1]), 1)
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
            outside.execute("COMMIT")
            outside.close()
            wait_until(lambda: server.get(f"{RUNS}/meanwhile").status == 200)
            self.assertEqual(server.post(RUNS, run("meanwhile")).json()["status"], "duplicate")
            self.assertTrue(balanced(server))
            server.stop_clean()

    def test_readers_of_the_file_never_stop_the_writer_for_good(self):
        with Server() as server:
            must_end = threading.Event()

            def read():
                while not must_end.is_set():
                    rows(server, "SELECT count(*), max(length(run_id)) FROM agent_runs")

            threads = [threading.Thread(target=read) for _ in range(3)]
            for thread in threads:
                thread.start()
            statuses = [server.post(RUNS, run(f"e{n}")).status for n in range(100)]
            must_end.set()
            for thread in threads:
                thread.join(30)
            self.assertEqual(statuses, [201] * 100)
            server.stop_clean()


class Crashes(unittest.TestCase):
    def test_what_was_answered_is_there_once_after_every_kill(self):
        seed = int(os.environ.get("SLUICE_TEST_SEED", time.time_ns() % 1_000_000))
        chance = random.Random(seed)
        with self.subTest(seed=seed), Server() as server:
            created, lock = set(), threading.Lock()
            for turn in range(4):
                def create(worker, base=turn):
                    try:
                        with server.connect(20) as connection:
                            for n in range(10_000):
                                event_id = f"{base}-{worker}-{n}"
                                connection.send(request_bytes("POST", RUNS, encode(run(event_id))))
                                answer = connection.response()
                                if answer is None:
                                    return
                                assert answer.status == 201, answer
                                with lock:
                                    created.add(event_id)
                    except (OSError, AssertionError) as error:
                        assert "closed" in str(error) or isinstance(error, OSError), error

                threads = [threading.Thread(target=create, args=(worker,)) for worker in range(6)]
                for thread in threads:
                    thread.start()
                time.sleep(chance.uniform(0.2, 0.8))
                server.kill9()
                for thread in threads:
                    thread.join(30)
                server.start()
                found = [row[0] for row in rows(server, "SELECT event_id FROM agent_runs")]
                self.assertEqual(len(found), len(set(found)))
                self.assertLessEqual(created, set(found))
            logged = [line["record"]["event_id"] for line in server.dump("--kind", "run")]
            self.assertEqual(sorted(logged), sorted(found))
            self.assertGreater(len(created), 20)
            server.stop_clean()

    def test_a_database_that_is_gone_is_made_again_from_the_log(self):
        columns = "SELECT * FROM agent_runs ORDER BY id"
        with Server() as server:
            for n in range(30):
                server.post(RUNS, run(f"e{n}", metrics_json={"n": n}))
            server.request("PATCH", f"{RUNS}/e3", {"status": "completed"})
            server.post(f"{RUNS}/e4/associate-commit", {"commit_hash": "abcdef1", "commit_source": "ci"})
            server.post(f"{RUNS}/e5/events", {"event_type": "x", "payload": {"a": 1}})
            before = (rows(server, columns), rows(server, "SELECT * FROM run_events"))
            self.assertEqual(server.stop(), 0)
            os.unlink(database(server))
            server.start()
            self.assertEqual((rows(server, columns), rows(server, "SELECT * FROM run_events")), before)
            server.stop_clean()

    def test_an_orderly_stop_answers_who_waits(self):
        with Server() as server:
            connections = [server.connect(30) for _ in range(32)]
            for n, connection in enumerate(connections):
                connection.send(request_bytes("POST", RUNS, encode(run(f"e{n}"))))
            answers = []
            wait_until(lambda: server.ledger()["records"]["received"] == 32)
            code = server.stop()
            for connection in connections:
                answers.append(connection.response())
                connection.close()
            self.assertEqual(code, 0)
            self.assertEqual([answer and answer.status for answer in answers], [201] * 32)
            self.assertEqual(rows(server, "SELECT count(*) FROM agent_runs"), [(32,)])


if __name__ == "__main__":
    unittest.main()
