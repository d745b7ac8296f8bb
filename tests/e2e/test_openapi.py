"""GET /openapi.json against what is really answered: each request below is looked up in the description, its status must be one that
is described, and its body what the schema says. And GET /docs, the page for people."""
import contextlib
import json
import re
import tempfile
import os
import unittest

from harness import Server, record

RUN = {"event_id": "e-1", "run_id": "r-1", "start_time": "2026-01-10T10:00:00Z", "agent_name": "a", "job_type": "j", "git_repo": "https://github.com/o/r",
       "git_commit_hash": "abcdef1", "metrics_json": {"n": 1}}
EVENT = {"event_type": "info", "source": "s", "message": "m"}
METRIC = {"timestamp": "2026-01-10T10:00:00Z", "service": "s", "name": "n", "value": 1}
# method, path, body, status
REQUESTS = [
    ("POST", "/v1/logs", record(1), 202), ("POST", "/v1/logs", [record(1), {}], 202), ("POST", "/v1/logs", {}, 422),
    ("POST", "/v1/metrics", METRIC, 202), ("POST", "/v1/events", EVENT, 202),
    ("GET", "/v1/logs?limit=2", None, 200), ("GET", "/v1/logs?limit=0", None, 422), ("GET", "/v1/metrics", None, 200), ("GET", "/v1/events", None, 200),
    ("GET", "/v1/durable?lsn=1", None, 200), ("GET", "/v1/durable", None, 422), ("GET", "/v1/ledger", None, 200), ("GET", "/healthcheck", None, 200),
    ("GET", "/v1/sinks", None, 200), ("GET", "/v1/quarantine/x", None, None), ("POST", "/v1/sinks/none/requeue", b"", None),
    ("POST", "/api/v1/runs", RUN, 201), ("POST", "/api/v1/runs", RUN, 200), ("POST", "/api/v1/runs", {**RUN, "duration_ms": -1}, 400),
    ("POST", "/api/v1/runs", {}, 422), ("POST", "/api/v1/runs/batch", [RUN, {**RUN, "event_id": "e-2"}], 200),
    ("POST", "/api/v1/runs/batch", {"runs": [RUN]}, 201), ("POST", "/api/v1/runs/batch", [5], 422),
    ("GET", "/api/v1/runs?limit=5", None, 200), ("GET", "/api/v1/runs?status=x", None, 400), ("GET", "/api/v1/runs?limit=x", None, 422),
    ("GET", "/api/v1/runs/e-1", None, 200), ("GET", "/api/v1/runs/nobody", None, 404),
    ("PATCH", "/api/v1/runs/e-1", {"status": "success"}, 200), ("PATCH", "/api/v1/runs/e-1", {}, 400), ("PATCH", "/api/v1/runs/nobody", {"status": "success"}, 404),
    ("PATCH", "/api/v1/runs/e-1", {"status": "odd"}, 422),
    ("POST", "/api/v1/runs/e-1/associate-commit", {"commit_hash": "abcdef1", "commit_source": "ci"}, 200),
    ("POST", "/api/v1/runs/e-1/associate-commit", {}, 422), ("POST", "/api/v1/runs/e-1/events", {"event_type": "x"}, 201),
    ("POST", "/api/v1/runs/e-1/events", {}, 422), ("GET", "/api/v1/runs/e-1/commit-url", None, 200), ("GET", "/api/v1/runs/e-1/repo-url", None, 200),
    ("GET", "/api/v1/runs/nobody/repo-url", None, 404), ("GET", "/api/v1/metadata", None, 200), ("GET", "/health", None, 200),
]


class Described(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server().__enter__()
        cls.document = cls.server.get("/openapi.json").json()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop_clean()
        finally:
            cls.server.__exit__()

    def schema(self, schema):
        while "$ref" in schema:
            node = self.document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                node = node[step]
            schema = node
        return schema

    def check(self, value, schema, where):
        schema = self.schema(schema)
        if "enum" in schema:
            self.assertIn(value, schema["enum"], where)
        kinds = schema.get("type", [])
        kinds = kinds if isinstance(kinds, list) else [kinds]
        tests = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict, "array": list, "null": type(None)}
        if kinds:
            self.assertTrue(any(isinstance(value, tests[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds), (where, value, kinds))
        if isinstance(value, dict) and "properties" in schema:
            for name in schema.get("required", []):
                self.assertIn(name, value, where)
            for name, member in value.items():
                if name in schema["properties"]:
                    self.check(member, schema["properties"][name], f"{where}.{name}")
                else:
                    self.assertTrue(schema["additionalProperties"], f"{where}.{name} is not described")
        for n, item in enumerate(value if isinstance(value, list) else []):
            self.check(item, schema.get("items", {}), f"{where}[{n}]")

    def operation(self, method, path):
        path = path.split("?")[0]
        exact = self.document["paths"].get(path, {}).get(method.lower())
        if exact:
            return exact
        for template, item in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in item:
                return item[method.lower()]
        return self.fail(f"{method} {path} is not described")

    def test_what_is_answered_is_described(self):
        for method, path, body, status in REQUESTS:
            with self.subTest(f"{method} {path} {status}"):
                response = self.server.request(method, path, b"" if body is None else body)
                if status is not None:
                    self.assertEqual(response.status, status, response)
                answers = self.operation(method, path)["responses"]
                self.assertIn(str(response.status), answers)
                self.check(response.json(), answers[str(response.status)]["content"]["application/json"]["schema"], path)

    def test_what_is_sent_is_described(self):
        for method, path, body, status in REQUESTS:
            if isinstance(body, dict) and status in (200, 201, 202):
                with self.subTest(f"{method} {path}"):
                    content = self.operation(method, path)["requestBody"]["content"]["application/json"]["schema"]
                    self.check(body, content, path)

    def test_every_described_path_is_served_with_its_methods_and_no_other(self):
        for template in self.document["paths"]:
            path = re.sub(r"\{\w+\}", "x", template)
            allow = {name.strip() for name in self.server.request("OPTIONS", path).headers["allow"].split(",")}
            # "/runs/batch" is what it says, and the path of the run of that name.
            fitting = [other for other in self.document["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", other), path)]
            described = {method.upper() for other in fitting for method in self.document["paths"][other] if method != "description"}
            self.assertIn(template, fitting)
            with self.subTest(template):
                self.assertEqual(allow, described | {"OPTIONS"} | ({"HEAD"} if "GET" in described else set()))

    def test_the_examples_are_what_their_schemas_say(self):
        count = 0
        for name, schema in self.document["components"]["schemas"].items():
            for example in schema.get("examples", []):
                self.check(example, schema, name)
                count += 1
        self.assertGreater(count, 20)

    def test_operation_ids_are_unique(self):
        ids = [operation["operationId"] for item in self.document["paths"].values() for name, operation in item.items() if name != "description"]
        self.assertEqual(len(ids), len(set(ids)))

    def test_run_examples_can_be_posted(self):
        schemas = self.document["components"]["schemas"]
        body = schemas["RunCreate"]["examples"][0]
        self.assertEqual(self.server.post("/api/v1/runs", body).status, 201)
        path = "/api/v1/runs/" + body["event_id"]
        self.assertEqual(self.server.request("PATCH", path, json.dumps(schemas["RunUpdate"]["examples"][0])).status, 200)
        self.assertEqual(self.server.post(path + "/associate-commit", schemas["CommitAssociate"]["examples"][0]).status, 200)
        self.assertEqual(self.server.post(path + "/events", schemas["RunEvent"]["examples"][0]).status, 201)
        for route, name in (("/v1/logs", "Log"), ("/v1/metrics", "Metric"), ("/v1/events", "Event")):
            self.assertEqual(self.server.post(route, schemas[name]["examples"][0]).status, 202)

    def test_the_page_has_every_path_and_needs_nothing_else(self):
        response = self.server.get("/docs")
        page = response.body.decode()
        self.assertEqual(response.status, 200)
        self.assertTrue(response.headers["content-type"].startswith("text/html"))
        self.assertIn("default-src 'none'", response.headers["content-security-policy"])
        for template in self.document["paths"]:
            self.assertIn(f"<code>{template}</code>", page)
        for name in self.document["components"]["schemas"]:
            self.assertIn(f'id="s-{name}"', page)
        self.assertEqual(self.server.request("HEAD", "/docs").body, b"")

    def test_both_are_open_to_browsers_without_a_token(self):
        with contextlib.ExitStack() as stack:
            base = stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-e2e-"))
            tokens = os.path.join(base, "tokens")
            with open(tokens, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
                out.write("r reader read\n")
            server = stack.enter_context(Server("--set", "auth.enabled=true", "--set", f"auth.tokens={tokens}"))
            self.assertEqual([server.get(path).status for path in ("/docs", "/openapi.json", "/api/v1/runs")], [200, 200, 401])


if __name__ == "__main__":
    unittest.main()
