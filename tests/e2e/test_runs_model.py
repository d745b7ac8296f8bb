"""Agent runs against a model: random creations, batches, changes, commits and events, orderly restarts and kill -9 with requests in flight.
What was answered is there, what was not answered is there whole or not at all, and a database made anew from the log equals the old one.

    RUNS_SEED=7 RUNS_STEPS=2000 python3 tests/e2e/test_runs_model.py     repeats or prolongs it
"""
import contextlib
import json
import os
import random
import sqlite3
import time
import unittest
import urllib.parse

from harness import Server, encode, request_bytes

STATUSES = {"running": "running", "success": "success", "failure": "failure", "partial": "partial", "timeout": "timeout", "cancelled": "cancelled",
            "failed": "failure", "completed": "success", "succeeded": "success"}
COUNTS = ["items_discovered", "items_succeeded", "items_failed", "items_skipped", "duration_ms"]
TEXTS = ["end_time", "error_summary", "error_details", "output_summary", "input_summary", "git_commit_author", "git_commit_timestamp"]
ONLY_CREATED = ["product", "website", "git_repo", "git_commit_hash", "host", "parent_run_id", "insight_id", "agent_owner"]
WORDS = ["", "plain", "ü€😀", "'; DROP TABLE agent_runs; --", "a\"b\\c\n\t", "%s %n", "x" * 3000, "\u0001", "NULL", "0"]
OBJECTS = [{}, {"n": 1}, {"deep": [{"a": [1, 2.5, None, True]}]}, {"ü": "\n", "big": 12345678901234567890}]
# What no command may change once a row is there; created_at and updated_at are looked at apart.
COLUMNS = ["event_id", "run_id", "start_time", "agent_name", "job_type", "status", *COUNTS, *TEXTS, *ONLY_CREATED, "git_commit_source", "metrics_json",
           "context_json", "api_posted", "api_retry_count", "schema_version"]


def path_of(event_id, *rest):
    return "/".join(["/api/v1/runs/" + urllib.parse.quote(event_id, safe=""), *rest])


class Model:
    """What the database must hold: rows by event_id, and events."""

    def __init__(self):
        self.rows, self.events, self.changes = {}, [], {}

    def row_of(self, body):
        row = dict.fromkeys(COLUMNS)
        row.update(dict.fromkeys(COUNTS, 0), status="running", api_posted=0, api_retry_count=0, schema_version=6)
        for name, value in body.items():
            row[name] = self.stored(name, value)
        return row

    @staticmethod
    def stored(name, value):
        if name.endswith("_json"):
            return json.dumps(value, separators=(",", ":")) if value else None
        if name == "status":
            return STATUSES[value]
        return 0 if name == "duration_ms" and value is None else value

    def touch(self, event_id):
        self.changes[event_id] = self.changes.get(event_id, 0) + 1

    def create(self, body):
        if body["event_id"] in self.rows:
            return False
        self.rows[body["event_id"]] = self.row_of(body)
        self.touch(body["event_id"])
        return True

    def update(self, event_id, body):
        for name, value in body.items():
            if value is not None:
                self.rows[event_id][name] = self.stored(name, value)
        self.touch(event_id)

    def associate(self, event_id, body):
        self.rows[event_id].update({"git_commit_" + name: body.get("commit_" + name) for name in ("hash", "source", "author", "timestamp")})
        self.touch(event_id)


class Player:
    """Makes random requests, knows what each must answer, and tells the model."""

    def __init__(self, random_, server):
        self.random, self.server, self.model = random_, server, Model()
        self.serial, self.stamps = 0, {}
        self.connection = None
        self.keyed = []  # requests that had an Idempotency-Key, with their first answers

    def ask(self, method, path, body):
        if method not in ("POST", "PATCH") or self.random.random() < 0.5:
            return self.send(method, path, body, {})
        key = f"key-{len(self.keyed)}"
        first = self.send(method, path, body, {"Idempotency-Key": key})
        self.keyed.append((key, method, path, body, first))
        return first

    def send(self, method, path, body, headers):
        if self.connection is None:
            self.connection = self.server.connect(30)
        self.connection.send(request_bytes(method, path, encode(body), headers))
        return self.connection.response()

    def repeat(self, key, method, path, body, first):
        """The first answer, to the byte. What never reached the log is judged again, to the same end."""
        again = self.send(method, path, body, {"Idempotency-Key": key})
        assert again is not None and (again.status, again.body) == (first.status, first.body), f"{method} {path}: expected {first}, got {again}"
        assert again.headers.get("x-sluice-duplicate") == "true" or first.status not in (201, 404) or path.endswith("/batch"), again

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def some_id(self, new):
        """A known one, or (sometimes, or if there is none) one that was never seen."""
        if new or not self.model.rows or self.random.random() < 0.1:
            self.serial += 1
            return f"id {self.serial}/ü"
        return self.random.choice(list(self.model.rows))

    def fields(self, names, chance):
        body = {}
        for name in names:
            if self.random.random() < chance:
                body[name] = self.random.choice([0, 1, 7, 2 ** 31, 2 ** 63 - 1]) if name in COUNTS else self.random.choice(WORDS)
        for name in ("metrics_json", "context_json"):
            if self.random.random() < chance:
                body[name] = self.random.choice(OBJECTS)
        if self.random.random() < chance:
            body["status"] = self.random.choice(list(STATUSES))
        if self.random.random() < chance:
            body["git_commit_source"] = self.random.choice(["manual", "llm", "ci"])
        items = list(body.items())
        self.random.shuffle(items)
        return dict(items)

    def run(self, new_chance=0.6):
        body = {"event_id": self.some_id(self.random.random() < new_chance), "run_id": f"r{self.random.randrange(20)}", "start_time": "2026-01-10T10:00:00Z",
                "agent_name": f"agent{self.random.randrange(4)}", "job_type": self.random.choice(["crawl", "build"])}
        return {**body, **self.fields(COUNTS + TEXTS + ONLY_CREATED, 0.2)}

    @staticmethod
    def expect(response, status, body=None):
        assert response is not None and response.status == status, f"expected {status}, got {response}"
        assert body is None or response.json() == body, f"expected {body}, got {response}"

    # ---- steps: each answered before the next ----

    def step_create(self):
        body = self.run()
        is_new = self.model.create(body)
        answer = self.ask("POST", "/api/v1/runs", body)
        if is_new:
            self.expect(answer, 201, {"status": "created", "event_id": body["event_id"], "run_id": body["run_id"]})
        else:
            self.expect(answer, 200, {"status": "duplicate", "event_id": body["event_id"], "message": "Event already exists (idempotent)"})

    def step_refused(self):
        body = self.run(1.0)
        name = self.random.choice(COUNTS)
        self.expect(self.ask("POST", "/api/v1/runs", {**body, name: -1}), 400, {"detail": f"Value must be non-negative: {name}"})
        self.expect(self.ask("POST", "/api/v1/runs", {**body, "status": "odd"}), 422)
        del body["run_id"]
        self.expect(self.ask("POST", "/api/v1/runs", body), 422)

    def step_batch(self):
        bodies = [self.run() for _ in range(self.random.randrange(25))]
        bodies += self.random.sample(bodies, min(len(bodies), 3))
        bad = [self.random.random() < 0.1 for _ in bodies]
        is_wrapped = self.random.random() < 0.5
        if bodies and self.random.random() < 0.2:
            broken = [dict(body) for body in bodies]
            del self.random.choice(broken)["agent_name"]
            self.expect(self.ask("POST", "/api/v1/runs/batch", broken), 422)
        created = sum(self.model.create(body) for body, is_bad in zip(bodies, bad) if not is_bad)
        sent = [{**body, "items_failed": -1} if is_bad else body for body, is_bad in zip(bodies, bad)]
        answer = self.ask("POST", "/api/v1/runs/batch", {"runs": sent} if is_wrapped else sent)
        self.expect(answer, 201 if is_wrapped else 200)
        got = answer.json()
        assert (got["inserted"], got["duplicates"], len(got["errors"]), got["total"]) == (created, len(bodies) - created - sum(bad), sum(bad), len(bodies)), got

    def step_update(self):
        event_id, body = self.some_id(False), self.fields(COUNTS + TEXTS, 0.2)
        if self.random.random() < 0.2:
            body = {**body, "error_summary": None, "unknown": [1]}
        known = [name for name, value in body.items() if value is not None and name != "unknown"]
        answer = self.ask("PATCH", path_of(event_id), body)
        if event_id not in self.model.rows:
            self.expect(answer, 404, {"detail": f"Run not found: {event_id}"})
        elif not known:
            self.expect(answer, 400, {"detail": "No valid fields to update"})
        else:
            self.model.update(event_id, {name: body[name] for name in known})
            self.expect(answer, 200, {"event_id": event_id, "updated": True, "fields_updated": known})

    def commit(self):
        body = {"commit_hash": "%040x" % self.random.getrandbits(160), "commit_source": self.random.choice(["manual", "llm", "ci"])}
        if self.random.random() < 0.5:
            body.update(commit_author=self.random.choice(WORDS), commit_timestamp=self.random.choice(WORDS))
        return body

    def step_associate(self):
        event_id, body = self.some_id(False), self.commit()
        answer = self.ask("POST", path_of(event_id, "associate-commit"), body)
        if event_id not in self.model.rows:
            self.expect(answer, 404, {"detail": f"Run not found: {event_id}"})
        else:
            self.model.associate(event_id, body)
            self.expect(answer, 200, {"status": "success", "event_id": event_id, "run_id": self.model.rows[event_id]["run_id"], "commit_hash": body["commit_hash"]})

    def step_event(self):
        event_id, payload = self.some_id(False), self.random.choice([None, {"n": 1}])
        body = {"event_type": self.random.choice(["step", "ü"]), "timestamp": f"t{self.serial}", "payload": payload}
        answer = self.ask("POST", path_of(event_id, "events"), body)
        if event_id not in self.model.rows:
            self.expect(answer, 404)
        else:
            self.model.events.append((self.model.rows[event_id]["run_id"], body["event_type"], body["timestamp"], json.dumps(payload, separators=(",", ":")) if payload else None))
            self.expect(answer, 201)

    def step_get(self):
        event_id = self.some_id(False)
        answer = self.ask("GET", path_of(event_id), b"")
        if event_id not in self.model.rows:
            self.expect(answer, 404, {"detail": f"Run not found: {event_id}"})
            return
        self.expect(answer, 200)
        for name, value in answer.json().items():
            if name in COLUMNS:
                wanted = self.model.rows[event_id][name]
                wanted = json.loads(wanted) if name.endswith("_json") and wanted is not None else bool(wanted) if name == "api_posted" else wanted
                assert value == wanted, (event_id, name, value, wanted)

    # ---- restarts ----

    def step_restart(self):
        self.disconnect()
        self.check()
        assert self.server.stop() == 0
        self.server.start()
        self.check()

    def in_flight(self):
        """(method, path, body, event_id, what the model does): about different runs, because their order is open."""
        taken, requests = set(), []
        for _ in range(self.random.randrange(1, 12)):
            kind = self.random.choice(["create", "create", "update", "associate"])
            event_id = self.some_id(kind == "create")
            if event_id in taken or (kind != "create" and event_id not in self.model.rows):
                continue
            taken.add(event_id)
            if kind == "create":
                body = {**self.run(), "event_id": event_id}
                requests.append(("POST", "/api/v1/runs", body, event_id, lambda model, body=body: model.create(body)))
            elif kind == "update":
                body = {**self.fields(COUNTS + TEXTS, 0.2), "items_failed": self.random.randrange(1000, 10 ** 9)}
                requests.append(("PATCH", path_of(event_id), body, event_id, lambda model, body=body, event_id=event_id: model.update(event_id, body)))
            else:
                body = self.commit()
                requests.append(("POST", path_of(event_id, "associate-commit"), body, event_id, lambda model, body=body, event_id=event_id: model.associate(event_id, body)))
        return requests

    def step_repeat(self):
        for keyed in self.random.sample(self.keyed, min(len(self.keyed), 5)):
            self.repeat(*keyed)

    def step_kill(self):
        self.disconnect()
        self.check()
        requests = self.in_flight()
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(self.server.connect(10)) for _ in requests]
            for connection, (method, path, body, _, _) in zip(connections, requests):
                connection.send(request_bytes(method, path, encode(body)))
            time.sleep(self.random.choice([0, 0.001, 0.003, 0.01]))
            self.server.kill9()
            answers = [self.answer_if_any(connection) for connection in connections]
        self.server.start()
        found = self.read_rows()
        for answer, (_, _, _, event_id, apply) in zip(answers, requests):
            before = self.model.rows.get(event_id)
            before = None if before is None else dict(before)
            assert answer is None or answer.status in (200, 201), answer
            if answer is None and found.get(event_id) == before:
                continue  # it never reached the log: whole or not at all
            apply(self.model)
        self.check()

    @staticmethod
    def answer_if_any(connection):
        try:
            return connection.response()
        except (OSError, AssertionError):
            return None

    # ---- what is there ----

    def query(self, text):
        with contextlib.closing(sqlite3.connect(os.path.join(self.server.data_dir, "runs.sqlite"), timeout=10)) as connection:
            return connection.execute(text).fetchall()

    def read_rows(self):
        return {found[0]: dict(zip(COLUMNS, found)) for found in self.query(f"SELECT {','.join(COLUMNS)} FROM agent_runs")}

    def check(self):
        found = self.read_rows()
        assert set(found) == set(self.model.rows), (set(found) ^ set(self.model.rows))
        for event_id, row in self.model.rows.items():
            assert found[event_id] == row, (event_id, {name: (found[event_id][name], row[name]) for name in COLUMNS if found[event_id][name] != row[name]})
        assert self.query("SELECT run_id, event_type, timestamp, payload_json FROM run_events ORDER BY id") == self.model.events
        stamps = {event_id: (created, updated, self.model.changes[event_id]) for event_id, created, updated in self.query("SELECT event_id, created_at, updated_at FROM agent_runs")}
        for event_id, (created, updated, changes) in self.stamps.items():
            assert stamps[event_id][0] == created, event_id
            assert (stamps[event_id][1] == updated) == (stamps[event_id][2] == changes), (event_id, stamps[event_id], updated, changes)
        self.stamps = stamps

    def everything(self):
        return self.query("SELECT * FROM agent_runs ORDER BY id") + self.query("SELECT * FROM run_events ORDER BY id") + self.query("SELECT * FROM commits") + self.query("SELECT * FROM sluice_run_outcomes ORDER BY lsn")


class Runs(unittest.TestCase):
    def play(self, seed, steps):
        print(f"repeat with: RUNS_SEED={seed} RUNS_STEPS={steps} python3 tests/e2e/test_runs_model.py")
        with Server() as server:
            player = Player(random.Random(seed), server)
            weights = {player.step_create: 30, player.step_refused: 5, player.step_batch: 15, player.step_update: 25, player.step_associate: 8, player.step_event: 8,
                       player.step_get: 15, player.step_repeat: 10, player.step_restart: 1, player.step_kill: 3}
            for step in range(steps):
                chosen = player.random.choices(list(weights), list(weights.values()))[0]
                try:
                    chosen()
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}, step {step}, {chosen.__name__}: {error}") from error
            player.step_kill()
            player.disconnect()
            server.stop_clean()
            self.rebuilt_equals(server, player)

    def rebuilt_equals(self, server, player):
        old = player.everything()
        os.unlink(os.path.join(server.data_dir, "runs.sqlite"))
        server.start()
        self.assertEqual(player.everything(), old)
        for keyed in player.keyed:
            player.repeat(*keyed)
        player.disconnect()
        player.check()
        server.stop_clean()
        self.assertEqual(server.verify().returncode, 0)

    def test_against_the_model(self):
        seeds = [int(os.environ["RUNS_SEED"])] if "RUNS_SEED" in os.environ else [1, 2, random.randrange(10 ** 9)]
        for seed in seeds:
            with self.subTest(seed=seed):
                self.play(seed, int(os.environ.get("RUNS_STEPS", "300")))


if __name__ == "__main__":
    unittest.main()
