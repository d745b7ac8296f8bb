"""The agent-run dialect, line by line of its contract: schema, model, endpoints. The client talks HTTP and opens the database file with
tools of its own (the sqlite3 command, Python's sqlite3) while the server runs. Written from the contract, not from the code."""
import contextlib
import datetime
import gzip
import http.client
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

from harness import BINARY, SMALL, Connection, Response, Server, encode, request_bytes, wait_until

TEXTS = ["product", "product_family", "platform", "subdomain", "website", "website_section", "item_name", "input_summary", "output_summary", "source_ref",
         "target_ref", "error_summary", "error_details", "git_repo", "git_branch", "git_commit_hash", "git_run_tag", "git_commit_source",
         "git_commit_author", "git_commit_timestamp", "host", "environment", "trigger_type", "api_posted_at", "insight_id", "parent_run_id",
         "agent_owner", "end_time"]
COUNTS = ["items_discovered", "items_succeeded", "items_failed", "items_skipped", "duration_ms", "api_retry_count"]
REQUIRED = ["event_id", "run_id", "start_time", "agent_name", "job_type"]
STATUSES = ["running", "success", "failure", "partial", "timeout", "cancelled"]
ALIASES = {"failed": "failure", "completed": "success", "succeeded": "success"}
PATCHED = ["status", "end_time", "duration_ms", "error_summary", "error_details", "output_summary", "input_summary", "items_discovered", "items_succeeded",
           "items_failed", "items_skipped", "metrics_json", "context_json", "git_commit_source", "git_commit_author", "git_commit_timestamp"]
# name, type, NOT NULL, default
SCHEMA = [("id", "INTEGER", 0, None), ("event_id", "TEXT", 1, None), ("run_id", "TEXT", 1, None), ("schema_version", "INTEGER", 0, "6"),
          ("created_at", "TEXT", 1, "datetime('now')"), ("updated_at", "TEXT", 0, "datetime('now')"), ("start_time", "TEXT", 1, None),
          ("end_time", "TEXT", 0, None), ("agent_name", "TEXT", 1, None), ("agent_owner", "TEXT", 0, None), ("job_type", "TEXT", 1, None),
          ("status", "TEXT", 1, "'running'")]
SCHEMA += [(name, "TEXT", 0, None) for name in ("product", "product_family", "platform", "subdomain", "website", "website_section", "item_name")]
SCHEMA += [(name, "INTEGER", 0, "0") for name in ("items_discovered", "items_succeeded", "items_failed", "items_skipped", "duration_ms")]
SCHEMA += [(name, "TEXT", 0, None) for name in ("input_summary", "output_summary", "source_ref", "target_ref", "error_summary", "error_details", "git_repo",
                                                "git_branch", "git_commit_hash", "git_run_tag", "git_commit_source", "git_commit_author",
                                                "git_commit_timestamp", "host", "environment", "trigger_type", "metrics_json", "context_json")]
SCHEMA += [("api_posted", "INTEGER", 0, "0"), ("api_posted_at", "TEXT", 0, None), ("api_retry_count", "INTEGER", 0, "0"), ("insight_id", "TEXT", 0, None),
           ("parent_run_id", "TEXT", 0, None)]
COLUMNS = [column[0] for column in SCHEMA]
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


def run(number=1, **more):
    return {"event_id": f"e-{number}", "run_id": f"r-{number}", "start_time": "2026-01-10T10:00:00+00:00", "agent_name": "crawler", "job_type": "crawl", **more}


def path_of(event_id, *rest):
    return "/".join(["/api/v1/runs/" + urllib.parse.quote(event_id, safe=""), *rest])


def database(server):
    return os.path.join(server.data_dir, "runs.sqlite")


def sql(server, query, *parameters):
    """As an outside reader: a connection of its own, not told that anybody else is there."""
    with contextlib.closing(sqlite3.connect(database(server), timeout=10)) as connection:
        return connection.execute(query, parameters).fetchall()


def tool(server, query):
    done = subprocess.run(["sqlite3", "-cmd", ".timeout 10000", database(server), query], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def fetch(server, path):
    """GET by a library: a large answer comes in chunks, which it undoes."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return Response(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def listed(server, **query):
    response = fetch(server, "/api/v1/runs?" + urllib.parse.urlencode(query))
    assert response.status == 200, response
    return response.json()


def row(server, event_id):
    found = sql(server, "SELECT * FROM agent_runs WHERE event_id = ?", event_id)
    assert len(found) == 1, found
    return dict(zip(COLUMNS, found[0]))


class Case(unittest.TestCase):
    def answer(self, response, status, body=None):
        self.assertEqual(response.status, status, response)
        self.assertEqual(response.headers["content-type"].split(";")[0], "application/json")
        got = response.json()
        if body is not None:
            self.assertEqual(got, body)
        return got

    def issue(self, response, kind, loc, msg=None):
        """Exactly one issue, in pydantic's terms."""
        detail = self.answer(response, 422)["detail"]
        self.assertEqual([(issue["type"], issue["loc"]) for issue in detail], [(kind, loc)], detail)
        if msg is not None:
            self.assertEqual(detail[0]["msg"], msg)
        return detail[0]


class Shared(Case):
    """One server for the tests of a class; each uses event ids of its own."""
    arguments = []

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.arguments)
        cls.server.__enter__()
        cls.serial = 0

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop_clean()
        finally:
            cls.server.__exit__()

    def fresh(self, **more):
        type(self).serial += 1
        return run(f"{type(self).__name__}-{self.serial}", **more)

    def created(self, **more):
        body = self.fresh(**more)
        self.answer(self.server.post("/api/v1/runs", body), 201)
        return body["event_id"]

    def item(self, event_id):
        return self.answer(fetch(self.server, path_of(event_id)), 200)

    def count(self):
        return sql(self.server, "SELECT count(*) FROM agent_runs")[0][0]


class Schema(Shared):
    """2.1, seen by whoever opens the file."""

    def test_columns_in_order_with_types_and_defaults(self):
        info = sql(self.server, "PRAGMA table_info(agent_runs)")
        got = [(name, kind, notnull, default.strip("()").replace("datetime('now'", "datetime('now')") if default else None)
               for _, name, kind, notnull, default, _ in info]
        self.assertEqual(got, SCHEMA)
        self.assertEqual([column[1] for column in info if column[5]], ["id"])
        self.assertIn("AUTOINCREMENT", tool(self.server, ".schema agent_runs").upper())

    def test_constraints_are_in_the_file_itself(self):
        """Tried on a copy: nobody else writes the database while the server does."""
        self.created()
        copy = database(self.server) + ".copy"
        with contextlib.closing(sqlite3.connect(database(self.server), timeout=10)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("INSERT INTO agent_runs(event_id, run_id, start_time, agent_name, job_type) VALUES('x','x','x','x','x')")
            self.assertEqual(target.execute("SELECT status, schema_version, duration_ms, items_failed, api_posted FROM agent_runs WHERE event_id='x'").fetchone(),
                             ("running", 6, 0, 0, 0))
            for column in COUNTS:
                with self.subTest(column), self.assertRaises(sqlite3.IntegrityError):
                    target.execute(f"UPDATE agent_runs SET {column} = -1")
            for column in REQUIRED + ["created_at", "status"]:
                with self.subTest(column), self.assertRaises(sqlite3.IntegrityError):
                    target.execute(f"UPDATE agent_runs SET {column} = NULL")
            with self.assertRaises(sqlite3.IntegrityError):
                target.execute("UPDATE agent_runs SET status = 'failed'")
            for status in STATUSES:
                target.execute("UPDATE agent_runs SET status = ?", (status,))
            with self.assertRaises(sqlite3.IntegrityError):
                target.execute("UPDATE agent_runs SET event_id = 'same'")
            target.execute("UPDATE agent_runs SET run_id = 'same'")
            target.rollback()
        os.unlink(copy)

    def test_other_tables(self):
        def columns(table):
            return [(name, kind, notnull) for _, name, kind, notnull, _, _ in sql(self.server, f"PRAGMA table_info({table})")]
        self.assertEqual([name for name, _, _ in columns("run_events")], ["id", "run_id", "event_type", "timestamp", "payload_json"])
        self.assertEqual([name for name, _, notnull in columns("run_events") if notnull], ["run_id", "event_type", "timestamp"])
        self.assertEqual([(key[2], key[3], key[4]) for key in sql(self.server, "PRAGMA foreign_key_list(run_events)")], [("agent_runs", "run_id", "run_id")])
        self.assertEqual([name for name, _, _ in columns("commits")], ["commit_hash", "run_id", "agent_name", "repo", "branch", "commit_date", "author", "message",
                                                                       "files_changed", "insertions", "deletions", "created_at"])
        self.assertEqual([kind for name, kind, _ in columns("commits") if name in ("files_changed", "insertions", "deletions")], ["INTEGER"] * 3)
        self.assertEqual([name for name, _, _ in columns("schema_migrations")], ["version", "applied_at", "description"])
        self.assertEqual(sql(self.server, "SELECT version FROM schema_migrations"), [(6,)])

    def test_indexes(self):
        def indexed(table):
            found = set()
            for _, name, *_ in sql(self.server, f"PRAGMA index_list({table})"):
                rows = sql(self.server, f"PRAGMA index_xinfo({name})")
                found.add(tuple((column, bool(desc)) for _, _, column, desc, _, key in rows if key))
            return found
        wanted = [("event_id",), ("agent_name",), ("status",), ("start_time",), ("-created_at",), ("agent_name", "status", "-created_at"), ("agent_name", "-created_at"),
                  ("job_type",), ("parent_run_id",), ("api_posted",), ("insight_id",), ("git_commit_hash",), ("website",), ("website", "website_section")]
        for names in wanted:
            with self.subTest(names):
                self.assertIn(tuple((name.lstrip("-"), name[0] == "-") for name in names), indexed("agent_runs"))
        self.assertIn((("run_id", False),), indexed("run_events"))
        self.assertIn((("run_id", False),), indexed("commits"))

    def test_journal_mode_is_delete_and_the_file_is_whole(self):
        self.created()
        self.assertEqual(tool(self.server, "PRAGMA journal_mode; PRAGMA integrity_check;").split(), ["delete", "ok"])
        self.assertEqual([name for name in os.listdir(self.server.data_dir) if name.startswith("runs.sqlite-")], [])


class Create(Shared):
    """2.2 and POST /api/v1/runs."""

    def test_created_answer_and_defaults(self):
        body = self.fresh()
        before = datetime.datetime.now(datetime.timezone.utc)
        self.answer(self.server.post("/api/v1/runs", body), 201, {"status": "created", "event_id": body["event_id"], "run_id": body["run_id"]})
        got = row(self.server, body["event_id"])
        expected = {**dict.fromkeys(COLUMNS), **dict.fromkeys(COUNTS, 0), **body, "status": "running", "api_posted": 0, "schema_version": 6}
        for name in ("id", "created_at", "updated_at"):
            expected[name] = got[name]
        self.assertEqual(got, expected)
        self.assertRegex(got["created_at"], STAMP)
        created = datetime.datetime.fromisoformat(got["created_at"])
        self.assertLess(abs((created - before).total_seconds()), 30)

    def test_answer_comes_after_log_and_database(self):
        for _ in range(50):
            event_id = self.created()
            self.assertEqual(sql(self.server, "SELECT count(*) FROM agent_runs WHERE event_id = ?", event_id), [(1,)])
        self.assertTrue(any(record["record"].get("event_id") == event_id for record in self.server.dump("--kind", "run")))

    def test_every_field_is_stored_and_given_back(self):
        body = self.fresh(**{name: f"value of {name}" for name in TEXTS}, **{name: n + 1 for n, name in enumerate(COUNTS)}, status="partial", api_posted=True,
                          created_at="2026-01-10T10:00:01.000001+00:00", metrics_json={"pages": 17, "rate": 0.25}, context_json={"a": [1, {"b": None}]})
        body["git_commit_source"] = "llm"
        self.answer(self.server.post("/api/v1/runs", body), 201)
        got = row(self.server, body["event_id"])
        for name, value in body.items():
            if name.endswith("_json"):
                self.assertEqual(json.loads(got[name]), value)
            else:
                self.assertEqual(got[name], int(value) if isinstance(value, bool) else value, name)
        item = self.item(body["event_id"])
        self.assertEqual({name: item[name] for name in body}, body)

    def test_repeat_is_200_and_overwrites_nothing(self):
        body = self.fresh(product="first")
        self.answer(self.server.post("/api/v1/runs", body), 201)
        before = row(self.server, body["event_id"])
        again = {**body, "product": "second", "run_id": "other", "status": "success"}
        self.answer(self.server.post("/api/v1/runs", again), 200,
                    {"status": "duplicate", "event_id": body["event_id"], "message": "Event already exists (idempotent)"})
        self.assertEqual(row(self.server, body["event_id"]), before)

    def test_run_id_is_not_unique(self):
        body = self.fresh()
        self.answer(self.server.post("/api/v1/runs", body), 201)
        self.answer(self.server.post("/api/v1/runs", {**body, "event_id": body["event_id"] + "-b"}), 201)

    def test_missing_fields_are_named(self):
        for name in REQUIRED:
            body = self.fresh()
            del body[name]
            with self.subTest(name):
                self.issue(self.server.post("/api/v1/runs", body), "missing", ["body", name], "Field required")
        detail = self.answer(self.server.post("/api/v1/runs", {}), 422)["detail"]
        self.assertEqual([issue["loc"][1] for issue in detail], REQUIRED)

    def test_wrong_types_are_named_and_nothing_is_stored(self):
        rows = [("event_id", 5, "string_type"), ("run_id", None, "string_type"), ("agent_name", ["x"], "string_type"), ("start_time", True, "string_type"),
                ("product", 5, "string_type"), ("host", {}, "string_type"), ("items_failed", "many", "int_parsing"), ("items_failed", 1.5, "int_from_float"),
                ("items_failed", [], "int_type"), ("items_failed", None, "int_type"), ("metrics_json", "text", "dict_type"), ("context_json", [1], "dict_type"),
                ("api_posted", "perhaps", "bool_parsing")]
        for name, value, kind in rows:
            body = self.fresh(**{name: value})
            with self.subTest(name=name, value=value):
                self.issue(self.server.post("/api/v1/runs", body), kind, ["body", name])
                self.assertEqual(self.server.get(path_of(f"e-{type(self).__name__}-{self.serial}")).status, 404)

    def test_status_is_normalised_or_refused(self):
        for status in STATUSES:
            self.assertEqual(row(self.server, self.created(status=status))["status"], status)
        for alias, status in ALIASES.items():
            self.assertEqual(row(self.server, self.created(status=alias))["status"], status)
        for bad in ("", "done", "SUCCESS ", "running\n", 5):
            response = self.server.post("/api/v1/runs", self.fresh(status=bad))
            with self.subTest(bad):
                self.assertEqual(self.answer(response, 422)["detail"][0]["loc"], ["body", "status"])

    def test_git_commit_source_is_one_of_three_or_null(self):
        for good in (None, "manual", "llm", "ci"):
            self.assertEqual(row(self.server, self.created(git_commit_source=good))["git_commit_source"], good)
        for bad in ("", "human", "CI", 1):
            response = self.server.post("/api/v1/runs", self.fresh(git_commit_source=bad))
            with self.subTest(bad):
                self.assertEqual(self.answer(response, 422)["detail"][0]["loc"], ["body", "git_commit_source"])

    def test_negative_counts_are_400(self):
        for name in COUNTS:
            body = self.fresh(**{name: -1})
            with self.subTest(name):
                self.answer(self.server.post("/api/v1/runs", body), 400, {"detail": f"Value must be non-negative: {name}"})
                self.assertEqual(self.server.get(path_of(body["event_id"])).status, 404)

    def test_null_duration_is_zero_and_empty_objects_are_null(self):
        got = row(self.server, self.created(duration_ms=None, metrics_json={}, context_json={}))
        self.assertEqual((got["duration_ms"], got["metrics_json"], got["context_json"]), (0, None, None))
        got = row(self.server, self.created(metrics_json=None, context_json=None, end_time=None))
        self.assertEqual((got["metrics_json"], got["context_json"], got["end_time"]), (None, None, None))

    def test_what_the_known_client_sends_besides_is_ignored(self):
        event_id = self.created(schema_version=6, updated_at="1999-01-01", record_type="run", anything={"x": [1]}, id=77)
        got = row(self.server, event_id)
        self.assertNotEqual(got["id"], 77)
        self.assertEqual(got["schema_version"], 6)
        self.assertNotEqual(got["updated_at"], "1999-01-01")

    def test_api_posted_is_a_boolean(self):
        for value in (True, False):
            event_id = self.created(api_posted=value)
            self.assertIs(self.item(event_id)["api_posted"], value)
            self.assertEqual(row(self.server, event_id)["api_posted"], int(value))

    def test_bodies_that_are_no_object(self):
        for body, kind in ((b"{", "json_invalid"), (b"{\"a\":1,}", "json_invalid"), (b"NaN", "json_invalid"), (b"{\"a\":\"\xff\"}", "json_invalid")):
            with self.subTest(body):
                detail = self.answer(self.server.post("/api/v1/runs", body), 422)["detail"]
                self.assertEqual(detail[0]["type"], kind)
                self.assertEqual(detail[0]["msg"], "JSON decode error")
                self.assertIsInstance(detail[0]["loc"][1], int)
        for body in (b"[]", b"5", b"null", b"\"x\"", b""):
            with self.subTest(body):
                response = self.server.request("POST", "/api/v1/runs", body, {"Content-Length": "0"} if body == b"" else None) if body else None
                if response is not None:
                    self.assertEqual(response.status, 422, response)

    def test_idempotency_key_answers_again(self):
        body, headers = self.fresh(), {"Idempotency-Key": "runs-key-1"}
        first = self.server.post("/api/v1/runs", body, headers)
        again = self.server.post("/api/v1/runs", body, headers)
        self.answer(first, 201)
        self.assertEqual(again.headers.get("x-sluice-duplicate"), "true", again)
        self.assertEqual((again.status, again.json()), (first.status, first.json()))
        self.answer(self.server.post("/api/v1/runs", self.fresh(), headers), 422)

    def test_unknown_methods(self):
        for method, path in (("PUT", "/api/v1/runs"), ("DELETE", path_of("e")), ("GET", path_of("e", "associate-commit")), ("POST", path_of("e", "repo-url"))):
            response = self.server.request(method, path, b"{}" if method in ("PUT", "POST") else b"")
            with self.subTest(path):
                self.assertEqual(response.status, 405)
                self.assertIn("allow", response.headers)
        self.assertEqual(self.server.get("/api/v1/nothing").status, 404)


class Batch(Shared):
    def batch(self, elements, wrapped=False):
        return self.server.post("/api/v1/runs/batch", {"runs": elements} if wrapped else elements)

    def test_bare_array_is_200_wrapped_is_201(self):
        bodies = [self.fresh() for _ in range(5)]
        self.answer(self.batch(bodies[:3]), 200, {"inserted": 3, "duplicates": 0, "errors": [], "total": 3})
        self.answer(self.batch(bodies, True), 201, {"status": "created", "inserted": 2, "duplicates": 3, "errors": [], "total": 5})
        self.assertEqual(sql(self.server, "SELECT count(*) FROM agent_runs WHERE event_id IN (?,?,?,?,?)", *[body["event_id"] for body in bodies]), [(5,)])

    def test_empty_is_all_zeros(self):
        self.answer(self.batch([]), 200, {"inserted": 0, "duplicates": 0, "errors": [], "total": 0})
        self.answer(self.batch([], True), 201, {"status": "created", "inserted": 0, "duplicates": 0, "errors": [], "total": 0})

    def test_repeats_inside_one_batch_are_duplicates_and_the_first_wins(self):
        body = self.fresh(product="first")
        self.answer(self.batch([body, {**body, "product": "second"}, body]), 200, {"inserted": 1, "duplicates": 2, "errors": [], "total": 3})
        self.assertEqual(row(self.server, body["event_id"])["product"], "first")

    def test_row_errors_never_fail_the_batch(self):
        good, bad, last = self.fresh(), self.fresh(items_failed=-3), self.fresh()
        got = self.answer(self.batch([good, bad, last]), 200)
        self.assertEqual((got["inserted"], got["duplicates"], got["total"]), (2, 0, 3))
        self.assertEqual(len(got["errors"]), 1)
        self.assertTrue(got["errors"][0].startswith(bad["event_id"] + ": "), got)
        self.assertEqual(self.server.get(path_of(bad["event_id"])).status, 404)
        self.assertEqual(self.server.get(path_of(last["event_id"])).status, 200)

    def test_a_wrong_shape_fails_the_whole_batch(self):
        good = self.fresh()
        broken = self.fresh()
        del broken["run_id"]
        before = self.count()
        self.issue(self.batch([good, broken]), "missing", ["body", 1, "run_id"], "Field required")
        for element in (5, None, "x", []):
            detail = self.answer(self.batch([good, element]), 422)["detail"]
            self.assertEqual(detail[0]["loc"][:2], ["body", 1])
        self.assertIn(1, self.answer(self.batch([good, broken], True), 422)["detail"][0]["loc"])
        for body in (b"{}", b"{\"runs\":5}", b"7", b"[{}", b"{\"other\":[]}"):
            self.answer(self.server.post("/api/v1/runs/batch", body), 422)
        self.assertEqual(self.count(), before)

    def test_aliases_and_defaults_as_in_a_single_post(self):
        body = self.fresh(status="failed", duration_ms=None, metrics_json={})
        self.answer(self.batch([body]), 200)
        got = row(self.server, body["event_id"])
        self.assertEqual((got["status"], got["duration_ms"], got["metrics_json"]), ("failure", 0, None))

    def test_ten_thousand_elements_and_again(self):
        bodies = [self.fresh() for _ in range(10000)]
        before = self.count()
        self.answer(self.batch(bodies), 200, {"inserted": 10000, "duplicates": 0, "errors": [], "total": 10000})
        self.assertEqual(self.count() - before, 10000)
        self.answer(self.batch(bodies, True), 201, {"status": "created", "inserted": 0, "duplicates": 10000, "errors": [], "total": 10000})
        self.assertEqual(self.count() - before, 10000)


class Patch(Shared):
    def patch(self, event_id, body):
        return self.server.request("PATCH", path_of(event_id), encode(body))

    def test_all_fields_in_the_order_of_the_request(self):
        values = {"status": "success", "end_time": "2026-01-10T11:00:00Z", "duration_ms": 5, "metrics_json": {"z": 1, "a": 2}, "context_json": {"k": "v"},
                  "items_discovered": 1, "items_succeeded": 2, "items_failed": 3, "items_skipped": 4, "git_commit_source": "ci"}
        values.update({name: f"new {name}" for name in PATCHED if name not in values})
        for names in (PATCHED, list(reversed(PATCHED))):
            event_id = self.created(metrics_json={"old": 1}, product="kept")
            before = self.item(event_id)
            self.answer(self.patch(event_id, {name: values[name] for name in names}), 200, {"event_id": event_id, "updated": True, "fields_updated": names})
            after = self.item(event_id)
            self.assertGreater(after["updated_at"], before["updated_at"])
            expected = {**before, **values, "updated_at": after["updated_at"]}
            self.assertEqual(after, expected)

    def test_null_and_unknown_keys_are_ignored(self):
        event_id = self.created(error_summary="kept", product="kept")
        body = {"product": "changed", "agent_name": "changed", "event_id": "changed", "error_summary": None, "duration_ms": 9, "metrics_json": None, "x": {}}
        self.answer(self.patch(event_id, body), 200, {"event_id": event_id, "updated": True, "fields_updated": ["duration_ms"]})
        got = row(self.server, event_id)
        self.assertEqual((got["product"], got["agent_name"], got["error_summary"], got["duration_ms"]), ("kept", "crawler", "kept", 9))

    def test_json_columns_are_replaced_whole(self):
        event_id = self.created(metrics_json={"a": 1, "b": 2})
        self.answer(self.patch(event_id, {"metrics_json": {"c": 3}}), 200)
        self.assertEqual(self.item(event_id)["metrics_json"], {"c": 3})
        self.answer(self.patch(event_id, {"metrics_json": {}}), 200, {"event_id": event_id, "updated": True, "fields_updated": ["metrics_json"]})
        self.assertIsNone(row(self.server, event_id)["metrics_json"])

    def test_status_aliases(self):
        event_id = self.created()
        for alias, status in ALIASES.items():
            self.answer(self.patch(event_id, {"status": alias}), 200)
            self.assertEqual(row(self.server, event_id)["status"], status)

    def test_errors_come_in_their_order(self):
        event_id, unknown = self.created(), "nobody"
        for who in (event_id, unknown):
            self.answer(self.patch(who, {"status": "nonsense", "duration_ms": -1}), 422)
            self.answer(self.patch(who, {"duration_ms": "x", "items_failed": -1}), 422)
            self.answer(self.patch(who, {"git_commit_source": "human"}), 422)
            self.answer(self.patch(who, b"["), 422)
            self.answer(self.patch(who, {"items_failed": -1}), 400, {"detail": "Value must be non-negative: items_failed"})
        for empty in ({}, {"error_summary": None}, {"unknown": 1}):
            self.answer(self.patch(unknown, empty), 404, {"detail": "Run not found: nobody"})
            self.answer(self.patch(event_id, empty), 400, {"detail": "No valid fields to update"})
        self.answer(self.patch(unknown, {"duration_ms": 1}), 404, {"detail": "Run not found: nobody"})


class Associate(Shared):
    def associate(self, event_id, **body):
        return self.server.post(path_of(event_id, "associate-commit"), body)

    def test_overwrites_the_four(self):
        body = self.fresh(git_commit_hash="0" * 40, git_commit_author="old", git_commit_timestamp="old", git_repo="kept")
        self.answer(self.server.post("/api/v1/runs", body), 201)
        event_id, before = body["event_id"], row(self.server, body["event_id"])
        self.answer(self.associate(event_id, commit_hash="ABCdef1", commit_source="llm"), 200,
                    {"status": "success", "event_id": event_id, "run_id": body["run_id"], "commit_hash": "ABCdef1"})
        got = row(self.server, event_id)
        self.assertEqual([got[f"git_commit_{name}"] for name in ("hash", "source", "author", "timestamp")], ["ABCdef1", "llm", None, None])
        self.assertGreater(got["updated_at"], before["updated_at"])
        self.answer(self.associate(event_id, commit_hash="f" * 40, commit_source="ci", commit_author="A <a@b>", commit_timestamp="2026-01-10T10:00:00Z"), 200)
        got = row(self.server, event_id)
        self.assertEqual([got[f"git_commit_{name}"] for name in ("hash", "source", "author", "timestamp")], ["f" * 40, "ci", "A <a@b>", "2026-01-10T10:00:00Z"])
        self.assertEqual(got["git_repo"], "kept")

    def test_refusals(self):
        event_id = self.created(git_commit_hash="kept")
        good = {"commit_hash": "abcdef1", "commit_source": "ci"}
        for change in ({"commit_hash": "abcdef"}, {"commit_hash": "a" * 41}, {"commit_hash": "abcdefg"}, {"commit_hash": 1234567}, {"commit_source": "human"},
                       {"commit_source": None}, {"commit_hash": None}):
            with self.subTest(change):
                detail = self.answer(self.associate(event_id, **{**good, **change}), 422)["detail"]
                self.assertEqual(detail[0]["loc"], ["body", list(change)[0]])
        self.issue(self.associate(event_id, commit_source="ci"), "missing", ["body", "commit_hash"])
        self.issue(self.associate(event_id, commit_hash="abcdef1"), "missing", ["body", "commit_source"])
        self.answer(self.associate("nobody", **good), 404, {"detail": "Run not found: nobody"})
        self.assertEqual(row(self.server, event_id)["git_commit_hash"], "kept")


class Events(Shared):
    def test_events_are_rows_of_run_events(self):
        body = self.fresh()
        self.answer(self.server.post("/api/v1/runs", body), 201)
        path = path_of(body["event_id"], "events")
        self.answer(self.server.post(path, {"event_type": "step", "timestamp": "2026-01-10T10:00:05Z", "payload": {"n": 1}}), 201)
        self.answer(self.server.post(path, {"event_type": "bare"}), 201)
        got = sql(self.server, "SELECT run_id, event_type, timestamp, payload_json FROM run_events WHERE run_id = ? ORDER BY id", body["run_id"])
        self.assertEqual(got[0][:3], (body["run_id"], "step", "2026-01-10T10:00:05Z"))
        self.assertEqual(json.loads(got[0][3]), {"n": 1})
        self.assertEqual((got[1][1], got[1][3]), ("bare", None))
        self.assertRegex(got[1][2], STAMP)

    def test_refusals(self):
        event_id = self.created()
        self.answer(self.server.post(path_of("nobody", "events"), {"event_type": "step"}), 404, {"detail": "Run not found: nobody"})
        self.issue(self.server.post(path_of(event_id, "events"), {}), "missing", ["body", "event_type"])
        self.issue(self.server.post(path_of(event_id, "events"), {"event_type": 5}), "string_type", ["body", "event_type"])


class List(Case):
    """GET /api/v1/runs against a known set of rows."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server().__enter__()
        cls.rows = []
        for n in range(120):
            day, minute = n // 24 + 1, n % 24
            cls.rows.append(run(n, agent_name=f"agent-{n % 3}", job_type=f"job-{n % 4}", status=STATUSES[n % 6], created_at=f"2026-01-{day:02}T10:{minute:02}:00+00:00",
                                start_time=f"2025-12-{day:02}T09:{(n * 7) % 24:02}:00+00:00"))
        response = cls.server.post("/api/v1/runs/batch", [cls.rows[(n * 77) % 120] for n in range(120)])
        assert response.json()["inserted"] == 120, response

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop_clean()
        finally:
            cls.server.__exit__()

    def ids(self, **query):
        return [item["event_id"] for item in listed(self.server, **query)]

    def expected(self, keep=lambda row: True, limit=100, offset=0):
        rows = sorted((row for row in self.rows if keep(row)), key=lambda row: row["created_at"], reverse=True)
        return [row["event_id"] for row in rows[offset:offset + limit]]

    def test_newest_first_one_hundred_unless_asked_otherwise(self):
        self.assertEqual(self.ids(), self.expected())
        self.assertEqual(self.ids(limit=1000), self.expected(limit=1000))
        self.assertEqual(self.ids(limit=7, offset=115), self.expected(limit=7, offset=115))
        self.assertEqual(self.ids(offset=1000), [])
        self.assertEqual(self.ids(offset=2 ** 40), [])

    def test_each_filter_and_all_together(self):
        conditions = {
            "agent_name": ("agent-1", lambda row: row["agent_name"] == "agent-1"),
            "status": ("timeout", lambda row: row["status"] == "timeout"),
            "job_type": ("job-2", lambda row: row["job_type"] == "job-2"),
            "created_before": ("2026-01-04T10:05:00+00:00", lambda row: row["created_at"] < "2026-01-04T10:05:00+00:00"),
            "created_after": ("2026-01-02T10:03:00+00:00", lambda row: row["created_at"] > "2026-01-02T10:03:00+00:00"),
            "start_time_from": ("2025-12-02T09:07:00+00:00", lambda row: row["start_time"] >= "2025-12-02T09:07:00+00:00"),
            "start_time_to": ("2025-12-04T09:14:00+00:00", lambda row: row["start_time"] <= "2025-12-04T09:14:00+00:00"),
        }
        names = list(conditions)
        for mask in range(1, 1 << len(names)):
            chosen = [name for n, name in enumerate(names) if mask >> n & 1]
            with self.subTest(chosen):
                self.assertEqual(self.ids(limit=1000, **{name: conditions[name][0] for name in chosen}),
                                 self.expected(lambda row: all(conditions[name][1](row) for name in chosen), 1000))

    def test_bounds_are_strict_for_created_and_inclusive_for_start(self):
        at = self.rows[30]["created_at"]
        self.assertNotIn("e-30", self.ids(created_before=at, limit=1000))
        self.assertNotIn("e-30", self.ids(created_after=at, limit=1000))
        at = self.rows[30]["start_time"]
        self.assertIn("e-30", self.ids(start_time_from=at, limit=1000))
        self.assertIn("e-30", self.ids(start_time_to=at, limit=1000))

    def test_filters_are_exact_and_aliases_work(self):
        self.assertEqual(self.ids(agent_name="agent"), [])
        self.assertEqual(self.ids(agent_name="AGENT-1"), [])
        self.assertEqual(self.ids(agent_name="agent-%"), [])
        for alias, status in ALIASES.items():
            self.assertEqual(self.ids(status=alias), self.ids(status=status))

    def test_empty_parameters_are_ignored(self):
        self.assertEqual(self.ids(agent_name="", status="", job_type="", created_before="", created_after="", start_time_from="", start_time_to=""), self.expected())

    def test_bad_parameters(self):
        text = "Invalid status. Must be one of: ['running', 'success', 'failure', 'partial', 'timeout', 'cancelled']"
        self.answer(self.server.get("/api/v1/runs?status=xyz"), 400, {"detail": text})
        for name in ("created_before", "created_after", "start_time_from", "start_time_to"):
            self.answer(self.server.get(f"/api/v1/runs?{name}=xyz"), 400, {"detail": f"Invalid ISO8601 timestamp for {name}: 'xyz'"})
        for query, kind, loc, msg in (("limit=1001", "less_than_equal", "limit", "Input should be less than or equal to 1000"),
                                      ("limit=0", "greater_than_equal", "limit", "Input should be greater than or equal to 1"),
                                      ("offset=-1", "greater_than_equal", "offset", "Input should be greater than or equal to 0"),
                                      ("limit=abc", "int_parsing", "limit", None)):
            with self.subTest(query):
                self.issue(self.server.get("/api/v1/runs?" + query), kind, ["query", loc], msg)

    def test_items_are_all_columns_in_order_and_the_urls(self):
        item = self.answer(self.server.get("/api/v1/runs?limit=1"), 200)[0]
        self.assertEqual(list(item), COLUMNS + ["commit_url", "repo_url"])
        self.assertEqual(item, self.answer(self.server.get(path_of(item["event_id"])), 200))

    def test_times_with_z_are_times_too(self):
        self.assertEqual(self.ids(created_after="2026-01-01T00:00:00Z"), self.expected())
        self.assertEqual(self.ids(created_after="2026-01-01"), self.expected())


class Reads(Shared):
    def test_unknown_run_is_404_with_its_id(self):
        for path in (path_of("x y/z"), path_of("x y/z", "commit-url"), path_of("x y/z", "repo-url")):
            self.answer(self.server.get(path), 404, {"detail": "Run not found: x y/z"})

    def test_ids_need_only_be_escaped(self):
        for event_id in ("a b", "a/b", "ü€😀", "a?b#c&d=e", "100%", "..", "a+b", "batch", '"', "\\", "'; DROP TABLE agent_runs; --"):
            with self.subTest(event_id):
                self.answer(self.server.post("/api/v1/runs", self.fresh(event_id=event_id)), 201)
                if event_id != "batch":
                    self.assertEqual(self.item(event_id)["event_id"], event_id)
                    self.answer(self.server.request("PATCH", path_of(event_id), b"{\"duration_ms\":1}"), 200)

    def test_unparsable_json_columns_are_raw_with_the_reason(self):
        """Such a row can only come from somebody else's hand, before we ran."""
        self.server.stop()
        with contextlib.closing(sqlite3.connect(database(self.server))) as connection, connection:
            connection.execute("INSERT INTO agent_runs(event_id, run_id, start_time, agent_name, job_type, metrics_json) VALUES('odd','r','s','a','j','{broken')")
        self.server.start()
        item = self.item("odd")
        self.assertEqual(item["metrics_json"], "{broken")
        self.assertIsInstance(item["metrics_json_parse_error"], str)
        self.assertNotIn("context_json_parse_error", item)

    def test_urls(self):
        hash_ = "0123456789abcdef0123456789abcdef01234567"
        rows = [  # git_repo, repo_url, commit_url with the hash behind
            ("https://github.com/o/r", "https://github.com/o/r", "https://github.com/o/r/commit/"),
            ("  https://github.com/o/r.git  ", "https://github.com/o/r", "https://github.com/o/r/commit/"),
            ("https://github.com/o/r/", "https://github.com/o/r", "https://github.com/o/r/commit/"),
            ("git@github.com:o/r.git", "https://github.com/o/r", "https://github.com/o/r/commit/"),
            ("git@gitlab.com:g/s/r.git", "https://gitlab.com/g/s/r", "https://gitlab.com/g/s/r/-/commit/"),
            ("https://bitbucket.org/o/r", "https://bitbucket.org/o/r", "https://bitbucket.org/o/r/commits/"),
            ("https://example.com/github.com/r", "https://example.com/github.com/r", None),
            ("https://github.com.evil.example/o/r", "https://github.com.evil.example/o/r", None),
            ("https://evilgithub.com/o/r", "https://evilgithub.com/o/r", None),
            ("https://example.com/r?x=https://github.com/o/r", "https://example.com/r?x=https://github.com/o/r", None),
            ("http://github.com/o/r", None, None), ("ssh://git@github.com/o/r", None, None), ("/srv/git/r", None, None), ("", None, None), (None, None, None),
            ("javascript:alert(1)//https://github.com", None, None),
        ]
        for repo, repo_url, commit in rows:
            with self.subTest(repo):
                event_id = self.created(git_repo=repo, git_commit_hash=hash_)
                self.answer(self.server.get(path_of(event_id, "repo-url")), 200, {"repo_url": repo_url})
                self.answer(self.server.get(path_of(event_id, "commit-url")), 200, {"commit_url": commit and commit + hash_})
                item = self.item(event_id)
                self.assertEqual((item["repo_url"], item["commit_url"]), (repo_url, commit and commit + hash_))
        event_id = self.created(git_repo="https://github.com/o/r")
        self.answer(self.server.get(path_of(event_id, "commit-url")), 200, {"commit_url": None})

    def test_head_is_get_without_its_body(self):
        event_id = self.created()
        for path in ("/api/v1/runs", path_of(event_id), "/api/v1/metadata", "/health"):
            response = self.server.request("HEAD", path)
            self.assertEqual((response.status, response.body), (200, b""))


class Operations(Case):
    def test_metadata_metrics_and_health(self):
        with Server() as server:
            self.answer(server.get("/api/v1/metadata"), 200, {"agent_names": [], "job_types": [], "counts": {"agent_names": 0, "job_types": 0}})
            names = ["zeta"] * 3 + ["alpha"] * 5 + ["mid"] * 4
            for n, name in enumerate(names):
                self.answer(server.post("/api/v1/runs", run(n, agent_name=name, job_type=f"job-{n % 2}")), 201)
            self.answer(server.post("/api/v1/runs", run(99, agent_name="old", created_at="2020-01-01T00:00:00.000000+00:00")), 201)
            self.answer(server.get("/api/v1/metadata"), 200, {"agent_names": ["alpha", "mid", "old", "zeta"], "job_types": ["crawl", "job-0", "job-1"],
                                                              "counts": {"agent_names": 4, "job_types": 3}})
            health = self.answer(server.get("/health"), 200)
            self.assertEqual((health["status"], health["journal_mode"], health["synchronous"]), ("ok", "DELETE", "FULL"))
            self.assertEqual(os.path.realpath(health["db_path"]), os.path.realpath(database(server)))
            self.assertIsInstance(health["version"], str)
            metrics = self.answer(server.get("/metrics", {"Accept": "application/json"}), 200)
            self.assertEqual(list(metrics["agents"].items()), [("alpha", 5), ("mid", 4), ("zeta", 3), ("old", 1)])
            self.assertEqual((metrics["total_runs"], metrics["recent_24h"]), (13, 12))
            self.assertEqual((metrics["performance"]["journal_mode"], metrics["performance"]["db_path"]), ("DELETE", health["db_path"]))
            for accept in ({}, {"Accept": "text/plain"}, {"Accept": "*/*"}):
                self.assertTrue(server.get("/metrics", accept).headers["content-type"].startswith("text/plain"))
            ledger = wait_until(lambda: server.ledger() if server.ledger()["records"]["pending"] == 0 else None)
            self.assertTrue(ledger["balanced"])
            self.assertEqual(ledger["records"]["durable"], 13)
            server.stop_clean()

    def test_scopes(self):
        base = tempfile.mkdtemp(prefix="sluice-e2e-")
        self.addCleanup(shutil.rmtree, base, ignore_errors=True)
        tokens = os.path.join(base, "tokens")
        with open(tokens, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            out.write("w writer ingest\nr reader read\n")
        with Server("--set", "auth.enabled=true", "--set", f"auth.tokens={tokens}") as server:
            writer, reader = {"Authorization": "Bearer writer"}, {"Authorization": "Bearer reader"}
            response = server.post("/api/v1/runs", run(1))
            self.answer(response, 401, {"detail": "Authorization header required. Use: Authorization: Bearer <token>"})
            self.assertEqual(response.headers["www-authenticate"], "Bearer")
            self.answer(server.post("/api/v1/runs", run(1), reader), 403)
            self.answer(server.post("/api/v1/runs", run(1), writer), 201)
            self.answer(server.request("PATCH", path_of("e-1"), b"{\"duration_ms\":1}", writer), 200)
            self.answer(server.post(path_of("e-1", "associate-commit"), {"commit_hash": "abcdef1", "commit_source": "ci"}, writer), 200)
            self.answer(server.get(path_of("e-1"), writer), 403)
            self.answer(server.get(path_of("e-1"), reader), 200)
            self.answer(server.get("/api/v1/metadata", reader), 200)
            self.answer(server.get("/health"), 200)
            self.assertEqual(server.get("/metrics").status, 200)

    def test_rate_limit(self):
        with Server("--set", "rate_limit.enabled=true", "--set", "rate_limit.rpm=3") as server:
            answers = [server.post("/api/v1/runs", run(n)) for n in range(5)]
            self.assertEqual([answer.status for answer in answers], [201] * 3 + [429] * 2)
            self.assertEqual(answers[4].json(), {"detail": "Rate limit exceeded. Max 3 requests per minute."})
            self.assertEqual((answers[4].headers["x-ratelimit-limit"], answers[4].headers["x-ratelimit-remaining"]), ("3", "0"))
            self.assertIn("retry-after", answers[4].headers)

    def test_one_writer(self):
        with Server() as server:
            locks = {name: open(os.path.join(server.data_dir, name), "rb").read() for name in os.listdir(server.data_dir) if name.endswith("lock")}
            wanted = f"{server.process.pid}\n{socket.gethostname()}\n".encode()
            self.assertIn(wanted, [text if text.endswith(b"\n") else text + b"\n" for text in locks.values()])
            with tempfile.TemporaryDirectory(prefix="sluice-e2e-") as other:
                for arguments in (["--data-dir", server.data_dir], ["--data-dir", os.path.join(other, "data"), "--set", f"runs.db={database(server)}"]):
                    second = subprocess.run([BINARY, "serve", "--listen", "127.0.0.1:0", *SMALL, *arguments], capture_output=True, timeout=30)
                    self.assertEqual(second.returncode, 1)
                    self.assertIn(str(server.process.pid), second.stderr.decode())
            self.answer(server.post("/api/v1/runs", run(1)), 201)
            server.kill9()
            server.start()  # what the dead process left is taken over
            self.answer(server.post("/api/v1/runs", run(1)), 200)
            server.stop_clean()

    def test_environment_of_the_original(self):
        for name, value, code in (("TELEMETRY_DB_SYNCHRONOUS", "NORMAL", 2), ("TELEMETRY_API_WORKERS", "4", 2)):
            server = Server(environment={name: value})
            done = subprocess.run(server.command(), capture_output=True, timeout=30, env=server.environment)
            server.__exit__()
            self.assertIn(done.returncode, (1, code))
            self.assertIn(name, done.stderr.decode())
        with Server(environment={"TELEMETRY_DB_JOURNAL_MODE": "WAL"}) as server:
            self.assertIn("TELEMETRY_DB_JOURNAL_MODE", server.log_text())
            self.answer(server.post("/api/v1/runs", run(1)), 201)
            self.assertEqual(sql(server, "PRAGMA journal_mode"), [("delete",)])

    def test_a_database_of_the_original_is_served_and_an_older_one_brought_up(self):
        """v5: everything but event_id's uniqueness; rows may have none."""
        columns = ", ".join(f"{name} {kind}{' NOT NULL' if notnull and name != 'event_id' else ''}{f' DEFAULT ({default})' if default else ''}"
                            for name, kind, notnull, default in SCHEMA if name not in ("id", "event_id"))
        server = Server()
        self.addCleanup(server.__exit__)
        os.makedirs(server.data_dir)
        with contextlib.closing(sqlite3.connect(database(server))) as connection, connection:
            connection.executescript(f"CREATE TABLE agent_runs(id INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT, {columns});"
                                     "CREATE TABLE run_events(id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, event_type TEXT NOT NULL, timestamp TEXT NOT NULL, payload_json TEXT);"
                                     "CREATE TABLE commits(commit_hash TEXT PRIMARY KEY, run_id TEXT, agent_name TEXT, repo TEXT, branch TEXT, commit_date TEXT, author TEXT, message TEXT,"
                                     " files_changed INTEGER, insertions INTEGER, deletions INTEGER, created_at TEXT DEFAULT (datetime('now')));"
                                     "CREATE TABLE schema_migrations(version INTEGER PRIMARY KEY, applied_at TEXT DEFAULT (datetime('now')), description TEXT);"
                                     "INSERT INTO schema_migrations(version, description) VALUES(5, 'five');"
                                     "INSERT INTO agent_runs(event_id, run_id, start_time, agent_name, job_type, schema_version) VALUES"
                                     "('kept','r1','2025-01-01T00:00:00Z','a','j',5), (NULL,'r2','2025-01-01T00:00:00Z','a','j',5), (NULL,'r3','2025-01-01T00:00:00Z','a','j',5);")
        server.start()
        ids = [found[0] for found in sql(server, "SELECT event_id FROM agent_runs ORDER BY run_id")]
        self.assertEqual(ids[0], "kept")
        for event_id in ids[1:]:
            self.assertRegex(event_id, r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$")
        self.assertEqual(self.answer(server.get(path_of(ids[2])), 200)["run_id"], "r3")
        self.answer(server.post("/api/v1/runs", run(1, event_id="kept")), 200)
        self.assertEqual(max(sql(server, "SELECT version FROM schema_migrations"))[0], 6)
        self.assertTrue(any(name.startswith("runs.sqlite.v5") for name in os.listdir(server.data_dir)))
        server.stop_clean()
        with contextlib.closing(sqlite3.connect(database(server))) as connection, connection:
            connection.execute("INSERT INTO schema_migrations(version, description) VALUES(7, 'from the future')")
        newer = subprocess.run(server.command(), capture_output=True, timeout=30)
        self.assertEqual(newer.returncode, 1)
        self.assertIn("7", newer.stderr.decode())


class Rules(Shared):
    """What section 0 promises of every ingest route holds for these, too."""

    def test_an_accepting_answer_says_that_it_is_durable_whatever_was_asked(self):
        event_id = self.fresh()["event_id"]
        for method, path, body in (("POST", "/api/v1/runs", run(0, event_id=event_id)), ("POST", "/api/v1/runs", run(0, event_id=event_id)), ("POST", "/api/v1/runs/batch", []),
                                   ("PATCH", path_of(event_id), {"duration_ms": 1}), ("POST", path_of(event_id, "events"), {"event_type": "x"})):
            for headers in ({}, {"X-Sluice-Ack": "memory"}):
                response = self.server.request(method, path, encode(body), headers)
                self.assertIn(response.status, (200, 201), response)
                self.assertEqual(response.headers.get("x-sluice-ack"), "durable", (method, path))

    def test_content_encodings(self):
        for body, name, status in ((gzip.compress(encode(self.fresh())), "gzip", 201), (gzip.compress(encode([self.fresh()]))[:-4], "gzip", 400), (b"x", "br", 415)):
            response = self.server.post("/api/v1/runs" if status != 400 else "/api/v1/runs/batch", body, {"Content-Encoding": name})
            self.assertEqual(response.status, status, response)
        event_id = self.created()
        response = self.server.request("PATCH", path_of(event_id), gzip.compress(b'{"duration_ms":77}'), {"Content-Encoding": "gzip"})
        self.answer(response, 200)
        self.assertEqual(row(self.server, event_id)["duration_ms"], 77)

    def test_a_body_over_the_limit_is_413_and_nothing_of_it_is_stored(self):
        body = self.fresh(error_details="x" * (3 << 20))
        self.assertEqual(self.server.post("/api/v1/runs", body).status, 413)
        self.assertEqual(self.server.get(path_of(body["event_id"])).status, 404)

    def test_pipelined_requests_of_all_sorts_are_answered_in_their_order(self):
        event_id = self.fresh()["event_id"]
        log = {"timestamp": "2026-01-10T10:00:00Z", "service": "s", "level": "INFO", "message": "m"}
        requests = [("POST", "/v1/logs", log, 202), ("POST", "/api/v1/runs", run(0, event_id=event_id), 201), ("GET", path_of(event_id), None, 200), ("POST", "/v1/logs", log, 202),
                    ("PATCH", path_of(event_id), {"duration_ms": 3}, 200), ("GET", "/healthcheck", None, 200), ("POST", "/api/v1/runs", run(0, event_id=event_id), 200),
                    ("POST", "/api/v1/runs", {}, 422), ("GET", path_of("none"), None, 404), ("POST", "/v1/logs", log, 202)] * 5
        with self.server.connect() as connection:
            connection.send(b"".join(request_bytes(method, path, encode(body) if body is not None else b"") for method, path, body, _ in requests))
            statuses = [connection.response().status for _ in requests]
        self.assertEqual(statuses[:10], [status for *_, status in requests[:10]])
        self.assertEqual(statuses[10:20], [202, 200, 200, 202, 200, 200, 200, 422, 404, 202])

    def test_idempotency_keys_on_every_writing_route(self):
        event_id = self.created()
        for n, (method, path, body) in enumerate((("POST", "/api/v1/runs/batch", [self.fresh(), self.fresh()]), ("PATCH", path_of(event_id), {"duration_ms": 5, "end_time": "x"}),
                                                  ("POST", path_of(event_id, "events"), {"event_type": "once"}),
                                                  ("POST", path_of(event_id, "associate-commit"), {"commit_hash": "abcdef1", "commit_source": "ci"}))):
            headers = {"Idempotency-Key": f"rules-{n}"}
            with self.subTest(path):
                first = self.server.request(method, path, encode(body), headers)
                again = self.server.request(method, path, encode(body), headers)
                self.assertEqual((again.status, again.headers.get("x-sluice-duplicate")), (first.status, "true"), again)
        self.assertEqual(len([1 for record in self.server.dump("--kind", "run") if record["record"].get("event_type") == "once"]), 1)

    def test_the_ledger_counts_commands_as_records(self):
        before = self.server.ledger()["records"]
        self.created()
        self.server.post("/api/v1/runs", self.fresh(items_failed=-1))
        self.server.post("/api/v1/runs", {})
        self.server.post("/api/v1/runs/batch", [self.fresh(), self.fresh(items_failed=-1)])
        ledger = wait_until(lambda: self.server.ledger() if self.server.ledger()["records"]["durable"] == before["durable"] + 2 else None)
        self.assertTrue(ledger["balanced"])
        self.assertEqual(self.server.get("/healthcheck").status, 200)

    def test_clients_that_leave_without_their_answer_change_nothing(self):
        bodies = [self.fresh() for _ in range(50)]
        for body in bodies:
            with self.server.connect() as connection:
                connection.send(request_bytes("POST", "/api/v1/runs", encode(body)))
        wait_until(lambda: all(self.server.get(path_of(body["event_id"])).status == 200 for body in bodies), 20, 0.1)
        for body in bodies:
            self.answer(self.server.post("/api/v1/runs", body), 200)


class Hostile(Shared):
    SQL = "'); DROP TABLE agent_runs; --\" OR 1=1; /*\\x00*/ %s ?1 :a @b $c \u202e\u0007\u001b[2J"

    def test_sql_in_every_text_is_text(self):
        body = self.fresh(**{name: self.SQL for name in TEXTS if name != "git_commit_source"}, metrics_json={self.SQL: self.SQL})
        body.update({name: self.SQL + str(self.serial) for name in REQUIRED})
        self.answer(self.server.post("/api/v1/runs", body), 201)
        item = self.item(body["event_id"])
        self.assertEqual({name: item[name] for name in body}, body)
        for name in ("agent_name", "job_type"):
            found = listed(self.server, **{name: body[name]})
            self.assertEqual([item["event_id"] for item in found], [body["event_id"]])
        self.assertIn(body["agent_name"], self.server.get("/api/v1/metadata").json()["agent_names"])
        self.assertEqual(tool(self.server, "PRAGMA integrity_check").strip(), "ok")

    def test_a_field_of_a_megabyte(self):
        text = "ü\"\\\n" * 150000
        body = self.fresh(error_details=text, output_summary=text[:1000])
        self.answer(self.server.post("/api/v1/runs", json.dumps(body, ensure_ascii=False)), 201)
        item = self.item(body["event_id"])
        self.assertEqual((item["error_details"], item["output_summary"]), (text, text[:1000]))
        plain = "x" * (1 << 20)
        event_id = self.created(error_details=plain)
        self.assertEqual(row(self.server, event_id)["error_details"], plain)
        self.assertEqual(listed(self.server, limit=1)[0]["error_details"], plain)

    def test_nul_never_cuts_a_text(self):
        for name in ("event_id", "product", "error_details", "status", "end_time"):
            body = self.fresh()
            body[name] = "a\0b"
            with self.subTest(name):
                self.answer(self.server.post("/api/v1/runs", body), 422)
        self.answer(self.server.post("/api/v1/runs", encode(self.fresh(product="a")).replace(b'"a"', b'"a\0b"')), 422)
        event_id = self.fresh()["event_id"]
        response = self.server.post("/api/v1/runs", self.fresh(event_id=event_id, metrics_json={"a\0b": "c\0d"}))
        self.assertIn(response.status, (201, 422))
        if response.status == 201:
            self.assertEqual(self.item(event_id)["metrics_json"], {"a\0b": "c\0d"})
        self.assertEqual(self.server.get(path_of("a\0b")).status in (400, 404, 422), True)

    def test_deep_json(self):
        def deep(levels):
            return "{\"a\":" * levels + "1" + "}" * levels
        def post(levels):
            body = json.dumps(self.fresh(metrics_json="HERE")).replace('"HERE"', deep(levels))
            return self.server.post("/api/v1/runs", body)
        self.answer(post(60), 201)
        self.assertEqual(json.dumps(self.item(f"e-Hostile-{self.serial}")["metrics_json"], separators=(",", ":")), deep(60))
        for levels in (65, 1000, 200000):
            self.assertEqual(post(levels).status, 422)

    def test_json_columns_keep_every_digit(self):
        for text in ('{"n":12345678901234567890123,"d":1.10,"e":1E+400,"z":-0}', '{"b":1, "a" : [ ] }', '{"same":1,"u":"\\u00e9"}'):
            body = self.fresh(metrics_json="HERE")
            self.answer(self.server.post("/api/v1/runs", json.dumps(body).replace('"HERE"', text)), 201)
            self.assertIn(text.encode(), self.server.get(path_of(body["event_id"])).body)
            self.assertEqual(row(self.server, body["event_id"])["metrics_json"], text)

    def test_integers_at_their_limits(self):
        for name in COUNTS:
            event_id = self.created(**{name: 2 ** 63 - 1})
            self.assertEqual(row(self.server, event_id)[name], 2 ** 63 - 1)
            self.assertEqual(self.item(event_id)[name], 2 ** 63 - 1)
        for value in (2 ** 63, 2 ** 64, 10 ** 400):
            self.answer(self.server.post("/api/v1/runs", self.fresh(duration_ms=value)), 422)
        for value in (-2 ** 63, -2 ** 63 - 1):
            self.assertIn(self.server.post("/api/v1/runs", self.fresh(duration_ms=value)).status, (400, 422))

    def test_duplicate_keys_are_refused(self):
        body = encode(self.fresh()).replace(b'"run_id":', b'"run_id":"first","run_id":')
        self.answer(self.server.post("/api/v1/runs", body), 422)

    def test_hostile_queries(self):
        for query in ("agent_name=%00", "agent_name=%ff", "status=%27", "limit=99999999999999999999", "offset=99999999999999999999999", "offset=9223372036854775807",
                      "limit=1e2", "created_before=2026-13-45T99:99:99Z", "agent_name=%zz", "limit=5&limit=6", "a" * 4000 + "=1"):
            with self.subTest(query[:40]):
                self.assertIn(self.server.get("/api/v1/runs?" + query).status, (200, 400, 422))

    def test_bodies_cut_at_every_byte(self):
        body = encode(self.fresh(metrics_json={"a": [1, "ü"]}, items_failed=7))
        before = self.count()
        with self.server.connect() as connection:
            for end in range(1, len(body)):
                connection.send(request_bytes("POST", "/api/v1/runs", body[:end]))
                self.assertEqual(connection.response().status, 422, body[:end])
        self.assertEqual(self.count(), before)


class Together(Case):
    def test_many_writers_of_the_same_ids(self):
        """Each id is created exactly once, whoever was first; nobody gets anything but 201 and 200."""
        with Server() as server:
            statuses, failures = {n: [] for n in range(200)}, []

            def write(first):
                try:
                    with server.connect() as connection:
                        for n in range(200):
                            number = (n + first * 13) % 200
                            connection.send(request_bytes("POST", "/api/v1/runs", encode(run(number, product=f"w{first}"))))
                            statuses[number].append(connection.response().status)
                except Exception as error:  # pylint: disable=broad-except
                    failures.append(error)
            threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            self.assertEqual(failures, [])
            for number, got in statuses.items():
                self.assertEqual(sorted(got), [200] * 7 + [201], number)
            self.assertEqual(tool(server, "SELECT count(*), count(DISTINCT event_id) FROM agent_runs").strip(), "200|200")
            server.stop_clean()

    def test_outside_readers_see_whole_states_and_stop_nobody(self):
        """A batch of 10 with one marker each: a reader sees all ten or none."""
        with Server() as server:
            done, seen, failures = threading.Event(), [0], []

            def read():
                try:
                    while not done.is_set():
                        for _, count in sql(server, "SELECT product, count(*) FROM agent_runs GROUP BY product"):
                            assert count == 10, count
                        text = tool(server, "SELECT count(*) FROM agent_runs WHERE product IS NOT NULL")
                        assert int(text) % 10 == 0, text
                        seen[0] += 1
                except Exception as error:  # pylint: disable=broad-except
                    failures.append(error)
            threads = [threading.Thread(target=read) for _ in range(3)]
            for thread in threads:
                thread.start()
            for batch in range(60):
                self.answer(server.post("/api/v1/runs/batch", [run(batch * 10 + n, product=f"b{batch}") for n in range(10)]), 200)
            done.set()
            for thread in threads:
                thread.join(60)
            self.assertEqual(failures, [])
            self.assertGreater(seen[0], 0)
            server.stop_clean()

    def test_a_reader_that_holds_its_lock_delays_and_loses_nothing(self):
        with Server() as server:
            self.answer(server.post("/api/v1/runs", run(1)), 201)
            with contextlib.closing(sqlite3.connect(database(server), isolation_level=None)) as connection:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM agent_runs").fetchall()
                with server.connect(30) as waiting:
                    waiting.send(request_bytes("POST", "/api/v1/runs", encode(run(2))))
                    time.sleep(1)
                    connection.execute("COMMIT")
                    self.answer(waiting.response(), 201)
            self.assertEqual(sql(server, "SELECT count(*) FROM agent_runs"), [(2,)])
            server.stop_clean()

    def test_a_reader_that_never_lets_go_shows_up_and_loses_nothing(self):
        with Server() as server:
            self.answer(server.post("/api/v1/runs", run(1)), 201)
            with contextlib.closing(sqlite3.connect(database(server), isolation_level=None)) as connection:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM agent_runs").fetchall()
                with server.connect(60) as waiting:
                    waiting.send(request_bytes("POST", "/api/v1/runs", encode(run(2))))
                    answer = waiting.response()
                    self.answer(answer, 503)
                    self.assertIn("retry-after", answer.headers)
                self.assertTrue(re.search("runs|database", server.log_text()))
                self.assertRegex(server.get("/metrics").body.decode(), r"(?m)^sluice_runs_\w*(busy|blocked)\w* [1-9]")
                connection.execute("COMMIT")
            wait_until(lambda: server.get(path_of("e-2")).status == 200, 30)
            self.answer(server.post("/api/v1/runs", run(2)), 200)
            server.stop_clean()


class Mirror(Case):
    def test_each_command_that_changed_something_is_a_line_of_its_day(self):
        with tempfile.TemporaryDirectory(prefix="sluice-e2e-") as base:
            directory = os.path.join(base, "raw")
            with Server("--set", f"runs.ndjson_dir={directory}") as server:
                self.answer(server.post("/api/v1/runs", run(1)), 201)
                self.answer(server.post("/api/v1/runs", run(1)), 200)
                self.answer(server.request("PATCH", path_of("e-1"), b"{\"duration_ms\":5}"), 200)
                server.kill9()
                server.start()
                self.answer(server.post("/api/v1/runs/batch", [run(n) for n in range(5)]), 200)
                server.stop_clean()
            names = sorted(os.listdir(directory))
            for name in names:
                self.assertRegex(name, r"^events_\d{8}\.ndjson$")
            lines = [json.loads(line) for name in names for line in open(os.path.join(directory, name), "rb").read().splitlines()]
            self.assertEqual(len(lines), 2 + 4)


if __name__ == "__main__":
    unittest.main()
