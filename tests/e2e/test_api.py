"""The ingest routes from outside, line by line of the wire contract: fields, answers, idempotency, exact bytes, the ledger, the metrics."""
import calendar
import email.utils
import json
import re
import threading
import time
import unittest

from harness import Server, encode, record, request_bytes, wait_until

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULID = re.compile(f"[0-7][{CROCKFORD}]{{25}}")
NDJSON = {"Content-Type": "application/x-ndjson"}

# Every error type that pydantic has and that can be meant here: clients switch on them.
PYDANTIC = {
    "missing", "string_type", "string_too_short", "string_too_long", "string_pattern_mismatch", "string_unicode", "enum", "literal_error",
    "value_error", "float_type", "float_parsing", "finite_number", "int_type", "int_parsing", "int_parsing_size", "int_from_float", "dict_type",
    "list_type", "list_too_long", "model_attributes_type", "model_type", "json_invalid", "json_type", "datetime_type", "datetime_parsing",
    "datetime_from_date_parsing", "datetime_object_invalid", "timezone_aware", "less_than_equal", "greater_than_equal", "extra_forbidden",
}


def ulid_ms(text):
    value = 0
    for character in text[:10]:
        value = value * 32 + CROCKFORD.index(character)
    return value


def metric(**more):
    return {"timestamp": "2025-08-25T10:00:00Z", "service": "e2e", "name": "cpu", "value": 1.5, **more}


def event(**more):
    return {"event_type": "info", "source": "e2e", "message": "m", **more}


def without(fields, name):
    return {key: value for key, value in fields.items() if key != name}


def raw_record(line):
    return line[line.index(b'"record":') + 9:-1]


class Api(unittest.TestCase):
    options = []

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.options)
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop_clean()
        finally:
            cls.server.__exit__()

    def tearDown(self):
        self.assertIsNone(self.server.process.poll(), "the server died: " + self.server.log_text())
        self.assertTrue(self.server.ledger()["balanced"])

    def count(self):
        """Records in the log, and nothing else has come since `before`."""
        return self.server.get("/v1/durable?lsn=0").json()["durable_lsn"]

    def post(self, path, body, headers=None):
        answer = self.server.post(path, body, headers)
        self.assertLess(answer.status, 500, answer)
        self.assertEqual(answer.headers["content-type"].split(";")[0], "application/json")
        return answer

    def accepted(self, path, body, headers=None):
        answer = self.post(path, body, headers)
        self.assertEqual(answer.status, 202, f"{answer} for {encode(body)[:300]!r}")
        return answer.json()

    def refused(self, path, body, loc=None, kinds=PYDANTIC, msg=None, headers=None):
        """422 with an issue at loc; nothing is stored."""
        before = self.count()
        answer = self.post(path, body, headers)
        self.assertEqual(answer.status, 422, f"{answer} for {encode(body)[:300]!r}")
        detail = answer.json()["detail"]
        self.check_detail(detail)
        if loc is not None:
            there = [issue for issue in detail if issue["loc"] == loc]
            self.assertTrue(there, f"no issue at {loc}: {detail}")
            self.assertIn(there[0]["type"], kinds)
            if msg:
                self.assertEqual(there[0]["msg"], msg)
        self.assertEqual(self.count(), before, "a refused record took an LSN")
        return detail

    def check_detail(self, detail):
        self.assertIsInstance(detail, list)
        self.assertTrue(detail)
        for issue in detail:
            self.assertIn(issue["type"], PYDANTIC, issue)
            self.assertTrue(issue["loc"] and issue["loc"][0] in ("body", "query", "header"), issue)
            self.assertTrue(issue["msg"], issue)
            self.assertIn("input", issue)

    def stored(self, first, last=None):
        return [raw_record(line) for line in self.server.dump_lines("--from-lsn", str(first), "--to-lsn", str(last or first))]


class Logs(Api):
    def test_one_record_is_answered_with_its_id_and_lsn(self):
        answer = self.post("/v1/logs", record(1))
        self.assertEqual(answer.status, 202)
        self.assertEqual(list(answer.json()), ["status", "id", "lsn"])
        self.assertEqual(answer.json()["status"], "accepted")
        self.assertRegex(answer.json()["id"], ULID)
        self.assertEqual(answer.headers["x-sluice-ack"], "durable")

    def test_each_required_field_is_required(self):
        for name in ("timestamp", "service", "level", "message"):
            with self.subTest(name):
                self.refused("/v1/logs", without(record(1), name), ["body", name], {"missing"}, "Field required")

    def test_all_missing_fields_are_named_at_once(self):
        detail = self.refused("/v1/logs", {})
        self.assertEqual(sorted(issue["loc"][1] for issue in detail), ["level", "message", "service", "timestamp"])

    def test_strings_are_strings(self):
        for name in ("timestamp", "service", "level", "message", "correlation_id"):
            for value in (5, True, [], {"a": 1}, 1.5) + ((None,) if name != "correlation_id" else ()):
                with self.subTest(name, value=value):
                    self.refused("/v1/logs", record(1, **{name: value}), ["body", name])
        self.refused("/v1/logs", record(1, service=5), ["body", "service"], {"string_type"}, "Input should be a valid string")
        self.refused("/v1/logs", record(1, message=None), ["body", "message"], {"string_type"}, "Input should be a valid string")

    def test_service_is_1_to_256_bytes(self):
        for good in ("s", "s" * 256, "é" * 128):
            self.accepted("/v1/logs", encode(record(1, service=good)))
            self.accepted("/v1/logs", json.dumps(record(1, service=good), ensure_ascii=False))
        self.refused("/v1/logs", record(1, service=""), ["body", "service"], {"string_too_short"}, "String should have at least 1 character")
        self.refused("/v1/logs", record(1, service="s" * 257), ["body", "service"], {"string_too_long"})
        self.refused("/v1/logs", record(1, service="é" * 129), ["body", "service"], {"string_too_long"})
        self.refused("/v1/logs", json.dumps(record(1, service="é" * 129), ensure_ascii=False), ["body", "service"], {"string_too_long"})

    def test_message_may_be_empty_and_long(self):
        self.accepted("/v1/logs", record(1, message=""))
        self.accepted("/v1/logs", record(1, message="m" * 500_000))

    def test_levels_in_any_case_and_by_alias(self):
        for level in ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "WARN", "FATAL"):
            for spelt in (level, level.lower(), level.capitalize(), level[0].lower() + level[1:]):
                with self.subTest(spelt):
                    self.accepted("/v1/logs", record(1, level=spelt))
        for level in ("", "INFORMATION", "INF", " INFO", "INFO ", "SEVERE", "ınfo", "IN\u0000FO", "INFO\u0000"):
            with self.subTest(level):
                self.refused("/v1/logs", record(1, level=level), ["body", "level"])

    def test_aliases_of_fields(self):
        self.accepted("/v1/logs", {**without(record(1), "service"), "service_name": "s"})
        self.accepted("/v1/logs", {**without(record(1), "correlation_id"), "x_correlation_id": "c"})
        self.refused("/v1/logs", {**without(record(1), "service"), "service_name": 5})
        self.refused("/v1/logs", {**without(record(1), "correlation_id"), "x_correlation_id": 5})

    def test_optional_fields_are_optional(self):
        self.accepted("/v1/logs", without(record(1), "correlation_id"))
        self.accepted("/v1/logs", record(1, agent_id="a", exception={"type": "E", "frames": [1, None, True]}, nothing=None))

    def test_timestamps_that_are_rfc_3339(self):
        for text in ("2025-08-25T10:00:00Z", "2025-08-25T10:00:00.1Z", "2025-08-25T10:00:00.123456789Z", "2025-08-25T10:00:00+02:00",
                     "2025-08-25T10:00:00.5-11:30", "2024-02-29T00:00:00Z", "2000-02-29T23:59:59Z", "1970-01-01T00:00:00Z",
                     "2025-12-31T23:59:59.999999999Z", "2025-01-01T00:00:00-00:00", "2025-01-01T00:00:00+23:59"):
            with self.subTest(text):
                self.accepted("/v1/logs", record(1, timestamp=text))

    def test_timestamps_that_are_not(self):
        for text in ("", "now", "2025", "2025-08-25", "2025-08-25T10:00:00", "2025-08-25T10:00Z", "2025-08-25T10:00:00.Z", "2025-02-29T10:00:00Z",
                     "1900-02-29T10:00:00Z", "2025-13-01T10:00:00Z", "2025-00-01T10:00:00Z", "2025-04-31T10:00:00Z", "2025-01-00T10:00:00Z",
                     "2025-08-25T24:00:00Z", "2025-08-25T10:60:00Z", "2025-08-25T10:00:61Z", "2025-08-25T10:00:00+24:00",
                     "2025-08-25T10:00:00+02:60", "2025-08-25T10:00:00+0200", "2025-08-25T10:00:00+02", "2025-08-25T10:00:00ZZ",
                     " 2025-08-25T10:00:00Z", "2025-08-25T10:00:00Z ", "25-08-25T10:00:00Z", "12025-08-25T10:00:00Z", "2025-8-25T10:00:00Z",
                     "2025-08-25T10:00:00.1234567890Z", "2025-08-25T10:00:00,5Z", "2025-08-25T1O:00:00Z", "1756116000", "２025-08-25T10:00:00Z"):
            with self.subTest(text):
                self.refused("/v1/logs", record(1, timestamp=text), ["body", "timestamp"])


class Metrics(Api):
    def test_both_forms(self):
        self.accepted("/v1/metrics", metric())
        self.accepted("/v1/metrics", metric(unit="percent", tags={"host": "a", "é": "ü"}))
        self.accepted("/v1/metrics", {"name": "n", "value": 5})
        self.accepted("/v1/metrics", {"metric_id": "m-1", "timestamp": "2025-08-25T10:00:00Z", "name": "n", "value": 5, "unit": "s", "tags": {}})
        self.accepted("/v1/metrics", {"metric_id": "m-2", "name": "n", "value": 0})

    def test_required_fields(self):
        self.refused("/v1/metrics", without(metric(), "name"), ["body", "name"], {"missing"}, "Field required")
        self.refused("/v1/metrics", without(metric(), "value"), ["body", "value"], {"missing"}, "Field required")

    def test_value_is_a_finite_number(self):
        for text in ("0", "-0", "-1", "1e3", "1E-7", "0.1", "9007199254740993", "-9223372036854775808", "18446744073709551616", "1e308",
                     "0.1000000000000000055511151231257827", "123456789012345678901234567890.5"):
            with self.subTest(text):
                body = encode(metric(value=0)).replace(b'"value":0', b'"value":' + text.encode())
                lsn = self.accepted("/v1/metrics", body)["lsn"]
                self.assertEqual(self.stored(lsn), [body])
        for value in ("1.5", True, False, None, [], {}):
            with self.subTest(value):
                self.refused("/v1/metrics", metric(value=value), ["body", "value"])
        for text in (b"1e999", b"-1e999"):
            self.refused("/v1/metrics", encode(metric(value=0)).replace(b'"value":0', b'"value":' + text), ["body", "value"])
        for text in (b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b"1.", b".5", b"1e", b"0x1"):
            self.refused("/v1/metrics", encode(metric(value=0)).replace(b'"value":0', b'"value":' + text), None)

    def test_tags_are_an_object_of_strings(self):
        self.refused("/v1/metrics", metric(tags={"good": "a", "bad": 5}), ["body", "tags", "bad"], {"string_type"})
        for value in ([], "a", 5, True):
            with self.subTest(value):
                self.refused("/v1/metrics", metric(tags=value), ["body", "tags"])
        self.refused("/v1/metrics", metric(tags={"a": {"b": "c"}}), ["body", "tags", "a"], {"string_type"})
        self.refused("/v1/metrics", metric(tags={"a": None}), ["body", "tags", "a"], {"string_type"})

    def test_types_of_the_rest(self):
        for fields in ({"name": 5}, {"service": 5}, {"unit": 5}, {"timestamp": 5}, {"timestamp": "yesterday"}):
            with self.subTest(fields):
                self.refused("/v1/metrics", metric(**fields), ["body", next(iter(fields))])

    def test_arrays_and_ndjson(self):
        answer = self.accepted("/v1/metrics", [metric(), metric(value="x"), metric()])
        self.assertEqual((answer["accepted"], answer["rejected"], answer["errors"][0]["index"]), (2, 1, 1))
        self.assertEqual(answer["errors"][0]["detail"][0]["loc"], ["body", 1, "value"])
        answer = self.accepted("/v1/metrics", b"\n".join(encode(metric(value=i)) for i in range(10)), NDJSON)
        self.assertEqual((answer["accepted"], answer["rejected"]), (10, 0))


class Events(Api):
    def test_what_is_required(self):
        self.accepted("/v1/events", event())
        for name in ("event_type", "source", "message"):
            with self.subTest(name):
                self.refused("/v1/events", without(event(), name), ["body", name], {"missing"}, "Field required")

    def test_types(self):
        for kind in ("info", "warning", "error", "debug"):
            self.accepted("/v1/events", event(event_type=kind, metadata={"a": [1, {"b": None}]}, timestamp="2025-08-25T10:00:00Z"))
        for fields in ({"event_type": "critical"}, {"event_type": ""}, {"event_type": 5}, {"source": 5}, {"message": 5}, {"timestamp": "x"}):
            with self.subTest(fields):
                self.refused("/v1/events", event(**fields), ["body", next(iter(fields))])

    def test_a_repeated_event_id_is_stored_once(self):
        first = self.accepted("/v1/events", event(event_id="once"))
        for body in (event(event_id="once"), event(event_id="once", message="other")):
            again = self.accepted("/v1/events", body)
            self.assertEqual((again["id"], again["lsn"]), (first["id"], first["lsn"]))
        self.assertEqual(self.ids("once"), 1)

    def test_a_repeat_inside_one_body_is_stored_once(self):
        answer = self.accepted("/v1/events", [event(event_id="x1"), event(event_id="x2"), event(event_id="x1"), event(event_id="x1", message="o")])
        self.assertEqual(answer["rejected"], 0)
        self.assertEqual((self.ids("x1"), self.ids("x2")), (1, 1))
        self.accepted("/v1/events", [event(event_id="x1"), event(event_id="x2")])
        self.accepted("/v1/events", [event(event_id="x2"), event(event_id="x3"), event()])
        self.assertEqual((self.ids("x1"), self.ids("x2"), self.ids("x3")), (1, 1, 1))

    def test_the_same_id_at_the_same_time_is_stored_once(self):
        answers = []

        def client():
            for number in range(20):
                answers.append(self.server.post("/v1/events", event(event_id=f"race-{number}")))
        threads = [threading.Thread(target=client) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual({answer.status for answer in answers}, {202})
        for number in range(20):
            self.assertEqual(self.ids(f"race-{number}"), 1)
        self.assertEqual(len({answer.json()["lsn"] for answer in answers}), 20)

    def ids(self, event_id):
        return sum(json.loads(raw_record(line)).get("event_id") == event_id for line in self.server.dump_lines("--kind", "event"))


class Bodies(Api):
    def test_array_keeps_the_valid_and_names_the_bad(self):
        body = [record(0), {}, record(2), 5, "x", None, [], record(7), record(8, level="x")]
        answer = self.post("/v1/logs", body)
        self.assertEqual((answer.status, answer.headers["x-sluice-ack"]), (202, "durable"))
        result = answer.json()
        self.assertEqual((result["status"], result["accepted"], result["rejected"]), ("accepted", 3, 6))
        self.assertEqual([error["index"] for error in result["errors"]], [1, 3, 4, 5, 6, 8])
        for error in result["errors"]:
            self.check_detail(error["detail"])
            for issue in error["detail"]:
                self.assertEqual(issue["loc"][:2], ["body", error["index"]])
        self.assertEqual(result["errors"][5]["detail"][0]["loc"], ["body", 8, "level"])
        self.assertEqual(result["last_lsn"] - result["first_lsn"], 2)
        self.assertEqual(self.stored(result["first_lsn"], result["last_lsn"]), [encode(body[i]) for i in (0, 2, 7)])

    def test_none_valid_is_422(self):
        self.refused("/v1/logs", [{}])
        detail = self.refused("/v1/logs", [{}, record(1, level="x"), 5])
        self.assertEqual({issue["loc"][1] for issue in detail}, {0, 1, 2})
        self.refused("/v1/logs", b"{}\n{}\n", None, headers=NDJSON)
        self.refused("/v1/logs", [{}] * 500)

    def test_an_empty_array_has_none_valid(self):
        before = self.count()
        self.assertEqual(self.post("/v1/logs", b"[]").status, 422)
        self.assertEqual(self.count(), before)

    def test_100_errors_are_listed_and_all_are_counted(self):
        result = self.accepted("/v1/logs", [{"a": i} for i in range(250)] + [record(1)])
        self.assertEqual((result["accepted"], result["rejected"], len(result["errors"])), (1, 250, 100))
        self.assertEqual([error["index"] for error in result["errors"]], list(range(100)))
        lines = b"\n".join([encode(record(1))] + [b'{"a":1}'] * 250)
        result = self.accepted("/v1/logs", lines, NDJSON)
        self.assertEqual((result["accepted"], result["rejected"], len(result["errors"])), (1, 250, 100))

    def test_ndjson_by_type_and_by_sight(self):
        lines = [encode(record(i)) for i in range(5)]
        for body in (b"\n".join(lines), b"\n".join(lines) + b"\n", b"\r\n".join(lines) + b"\r\n"):
            for headers in (NDJSON, {}, {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson; charset=utf-8"}):
                with self.subTest(body=body[-3:], headers=headers):
                    result = self.accepted("/v1/logs", body, headers)
                    self.assertEqual((result["accepted"], result["rejected"], result["errors"]), (5, 0, []))
                    self.assertEqual(self.stored(result["first_lsn"], result["last_lsn"]), lines)

    def test_ndjson_of_one_line_is_answered_as_a_batch(self):
        result = self.accepted("/v1/logs", encode(record(1)) + b"\n", NDJSON)
        self.assertEqual((result["accepted"], result["rejected"]), (1, 0))

    def test_a_broken_ndjson_line_is_one_bad_record(self):
        result = self.accepted("/v1/logs", encode(record(0)) + b"\n{broken\n" + encode(record(2)), NDJSON)
        self.assertEqual((result["accepted"], result["rejected"], result["errors"][0]["index"]), (2, 1, 1))
        self.assertEqual(result["errors"][0]["detail"][0]["type"], "json_invalid")

    def test_a_broken_array_stores_nothing(self):
        whole = encode([record(1), record(2)])
        for body in (whole[:-1], whole + b"]", whole[:-1] + b",]", whole[:-20], b"[" + whole, whole.replace(b"},{", b"}{"), b"[,]"):
            with self.subTest(body[-20:]):
                self.refused("/v1/logs", body)

    def test_no_record_at_all(self):
        for body in (b"", b" ", b"\n", b"\r\n\r\n", b"1", b'"x"', b"null", b"true"):
            for headers in ({}, NDJSON):
                with self.subTest(body, headers=headers):
                    self.refused("/v1/logs", body, None, headers=headers)

    def test_content_types(self):
        for kind in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json;charset=UTF-8"):
            self.assertIn("id", self.accepted("/v1/logs", record(1), {"Content-Type": kind}))
        self.assertIn("id", self.accepted("/v1/logs", record(1)))

    def test_otlp_is_told_apart(self):
        before = self.count()
        otlp = {"resourceLogs": [{"resource": {}, "scopeLogs": [{"logRecords": [{"timeUnixNano": "1", "body": {"stringValue": "x"}}]}]}]}
        for body, headers in ((otlp, {}), ({"resourceLogs": []}, {}), (otlp, {"Content-Type": "application/json"}), (json.dumps(otlp, indent=2), {}),
                              (b"\x0a\x00", {"Content-Type": "application/x-protobuf"}), (b"", {"Content-Type": "application/x-protobuf"}),
                              (encode(record(1)), {"Content-Type": "application/x-protobuf"}), ({"a": 1, "resourceLogs": []}, {})):
            with self.subTest(body, headers=headers):
                answer = self.post("/v1/logs", body, headers)
                self.assertEqual(answer.status, 415, answer)
                self.assertRegex(answer.json()["detail"], "(?i)otlp|opentelemetry")
        self.assertEqual(self.count(), before)
        self.accepted("/v1/logs", record(1, nested={"resourceLogs": []}))


class Json(Api):
    def test_stored_bytes_are_the_client_s(self):
        start = b'{"timestamp":"2025-08-25T10:00:00Z","service":"s","level":"INFO","message":"m"'
        bodies = [start + tail for tail in (
            b',"i":9007199254740993,"j":-9223372036854775808,"k":18446744073709551615}',
            b',"d":0.1000000000000000055511151231257827021181583404541015625,"e":1E400,"f":-0,"g":1.0,"h":1e+2}',
            b',"u":"\\u00e9\\u00E9\xc3\xa9\\ud83d\\ude00\xf0\x9f\x98\x80\\/\\b\\f\\n\\r\\t\\"\\\\"}',
            b',"z":1,"a":2,"M":3}', b' , "x" : [ 1 , 2,3 ] ,\t"y":{ } }', b',"\\u0000":"\\u0000"}', b',"":""}', b',"long":"' + b"x" * 100_000 + b'"}',
            b',"del":"\x7f","c1":"\xc2\x85","sep":"\xe2\x80\xa8"}')]
        bodies.append(b'{"mess\\u0061ge":"m","level":"\\u0049NFO","service":"s","timestamp":"2025-08-25T10:00:00Z"}')
        for body in bodies:
            with self.subTest(body[-60:]):
                self.assertEqual(self.stored(self.accepted("/v1/logs", body)["lsn"]), [body])
        result = self.accepted("/v1/logs", b" [ " + b" ,\t".join(bodies) + b" ] ")
        self.assertEqual(self.stored(result["first_lsn"], result["last_lsn"]), bodies)
        result = self.accepted("/v1/logs", b"\n".join(bodies), NDJSON)
        self.assertEqual(self.stored(result["first_lsn"], result["last_lsn"]), bodies)

    def test_a_record_over_several_lines_is_still_one_line_of_the_dump(self):
        body = json.dumps(record(1, nested={"a": [1, 2]}), indent=2)
        lsn = self.accepted("/v1/logs", body)["lsn"]
        lines = self.server.dump_lines("--from-lsn", str(lsn), "--to-lsn", str(lsn))
        self.assertEqual(len(lines), 1)
        self.assertEqual(json.loads(lines[0])["record"], json.loads(body))

    def test_depth_64_and_no_more(self):
        def deep(depth, opening, closing):
            return encode(record(1))[:-1] + b',"x":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            self.accepted("/v1/logs", deep(64, opening, closing))
            self.refused("/v1/logs", deep(65, opening, closing))
            self.refused("/v1/logs", deep(100_000, opening, closing))
        self.refused("/v1/logs", b"[" * 500_000)

    def test_duplicate_keys_are_refused(self):
        whole = encode(record(1))
        for tail in (b',"service":"other"}', b',"service":"e2e"}', b',"servic\\u0065":"x"}', b',"a":1,"a":1}', b',"a":1,"\\u0061":1}', b',"":1,"":2}'):
            with self.subTest(tail):
                self.refused("/v1/logs", whole[:-1] + tail)
        self.accepted("/v1/logs", whole[:-1] + b',"Service":"other","a":{"service":1}}')

    def test_what_is_no_json_is_refused(self):
        whole = encode(record(1, x=0))
        for value in (b"\xff", b'"\xff"', b'"\xc3"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\xf8\x88\x80\x80\x80"',
                      b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\ud800"', b'"\\ud800x"', b'"\\udc00\\ud800"', b'"\\ud800\\u0041"', b"NaN", b"Infinity",
                      b"-Infinity", b"nan", b"undefined", b"True", b"01", b"-01", b"-", b"+1", b"1.", b".1", b"1e", b"1e+", b"0x1", b"1_0",
                      b"'x'", b'"\n"', b'"\t"', b'"\x00"', b'"\x1f"', b'"\\x41"', b'"\\u12"', b'"\\u12g4"', b'"\\"', b"[1,]", b"[,1]", b"[1 2]",
                      b"{\"a\":1,}", b"{,}", b"{\"a\"}", b"{a:1}", b"{\"a\" 1}", b"{1:1}", b"[1}", b"/* */ 0", b"0 // x", b"# 0", b"nul", b"\x0b0", b"\xa00",
                      b"\xef\xbb\xbf0", b"", b"truefalse", b"0 0"):
            with self.subTest(value):
                self.refused("/v1/logs", whole.replace(b'"x":0', b'"x":' + value))
        for body in (b"{", b"{}}", whole + b"}", whole + b" x", whole + whole, whole[:-1], whole[:-1] + b",}", b"{" + whole, whole + b"\0", b"\0" + whole):
            with self.subTest(body[:3] + body[-3:]):
                self.refused("/v1/logs", body)

    def test_every_truncation_is_refused_and_says_where(self):
        whole = encode(record(1, a=[1, {"b": "\u00e9"}], c=-1.5e3, d=None))
        for at in range(1, len(whole)):
            answer = self.server.post("/v1/logs", whole[:at])
            self.assertEqual(answer.status, 422, whole[:at])
            issue = answer.json()["detail"][0]
            self.assertEqual((issue["type"], issue["msg"], issue["loc"][0]), ("json_invalid", "JSON decode error", "body"), whole[:at])
            self.assertTrue(0 <= issue["loc"][1] <= at, issue)

    def test_json_errors_name_the_byte(self):
        issue = self.post("/v1/logs", b'{"timestamp": nope}').json()["detail"][0]
        self.assertEqual((issue["type"], issue["loc"], issue["msg"]), ("json_invalid", ["body", 14], "JSON decode error"))


class Order(Api):
    def test_lsns_are_dense_from_1_over_kinds_and_restarts(self):
        with Server() as server:
            self.assertEqual(server.post("/v1/logs", record(1)).json()["lsn"], 1)
            batch = server.post("/v1/metrics", [metric(), {}, metric()]).json()
            self.assertEqual((batch["first_lsn"], batch["last_lsn"]), (2, 3))
            self.assertEqual(server.post("/v1/logs", {}).status, 422)
            self.assertEqual(server.post("/v1/events", event(event_id="a")).json()["lsn"], 4)
            self.assertEqual(server.post("/v1/events", event(event_id="a")).json()["lsn"], 4)
            self.assertEqual(server.post("/v1/logs", record(2)).json()["lsn"], 5)
            self.assertEqual(server.stop(), 0)
            server.start()
            self.assertEqual(server.post("/v1/logs", record(3)).json()["lsn"], 6)
            server.kill9()
            server.start()
            self.assertEqual(server.post("/v1/logs", record(4)).json()["lsn"], 7)
            dump = server.dump()
            self.assertEqual([entry["lsn"] for entry in dump], list(range(1, 8)))
            self.assertEqual([entry["kind"] for entry in dump], ["log", "metric", "metric", "event", "log", "log", "log"])
            self.assertEqual(list(dump[0]), ["lsn", "id", "kind", "received_at", "record"])
            self.assertEqual([entry["lsn"] for entry in server.dump("--kind", "metric")], [2, 3])
            self.assertEqual([entry["lsn"] for entry in server.dump("--from-lsn", "3", "--to-lsn", "5")], [3, 4, 5])
            self.assertEqual(server.verify().returncode, 0)

    def test_ids_are_unique_sortable_by_time_and_the_dump_s(self):
        answers, started = [], int(time.time() * 1000)
        for number in range(50):
            answers.append(self.accepted("/v1/logs", record(number)))
            time.sleep(0.002)
        self.accepted("/v1/logs", [record(i) for i in range(2000)])
        ids = [answer["id"] for answer in answers]
        self.assertEqual(ids, sorted(ids))
        for text in ids:
            self.assertRegex(text, ULID)
            self.assertTrue(started - 1000 <= ulid_ms(text) <= time.time() * 1000 + 1000)
        dump = {entry["lsn"]: entry for entry in self.server.dump()}
        self.assertEqual([dump[answer["lsn"]]["id"] for answer in answers], ids)
        every = [entry["id"] for entry in dump.values()]
        self.assertEqual(len(every), len(set(every)))
        for entry in dump.values():
            self.assertRegex(entry["received_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")

    def test_records_of_a_request_stay_together(self):
        def client(name, results):
            for number in range(10):
                results.append((name, number, self.server.post("/v1/logs", [record(i, service=f"{name}-{number}") for i in range(20)]).json()))
        results = []
        threads = [threading.Thread(target=client, args=(name, results)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        dump = {entry["lsn"]: entry["record"] for entry in self.server.dump()}
        self.assertEqual(len(results), 40)
        for name, number, answer in results:
            mine = [dump[lsn] for lsn in range(answer["first_lsn"], answer["last_lsn"] + 1)]
            self.assertEqual([r["service"] for r in mine], [f"{name}-{number}"] * 20)
            self.assertEqual([r["correlation_id"] for r in mine], [f"n-{i}" for i in range(20)])


class Idempotency(Api):
    def keyed(self, key, body, path="/v1/logs", server=None):
        return (server or self.server).post(path, body, {"Idempotency-Key": key})

    def check_repeat(self, first, again):
        self.assertEqual((again.status, again.json()), (first.status, first.json()))
        self.assertEqual(again.headers.get("x-sluice-duplicate"), "true", again)

    def test_a_repeat_gets_the_first_answer_and_stores_nothing(self):
        for path, body in (("/v1/logs", record(1)), ("/v1/metrics", metric()), ("/v1/events", event()), ("/v1/logs", [record(1), record(2)])):
            key = f"repeat {path} {type(body).__name__}".replace(" ", "-")
            before = self.count()
            first = self.keyed(key, body, path)
            self.assertEqual(first.status, 202, first)
            self.assertNotIn("x-sluice-duplicate", first.headers)
            after = self.count()
            self.assertGreater(after, before)
            for _ in range(3):
                self.check_repeat(first, self.keyed(key, body, path))
            self.assertEqual(self.count(), after)

    def test_the_same_key_with_another_body_is_422(self):
        self.assertEqual(self.keyed("clash", record(1)).status, 202)
        before = self.count()
        for body in (record(2), [record(1)], encode(record(1)) + b" "):
            answer = self.keyed("clash", body)
            self.assertEqual(answer.status, 422, answer)
        self.assertEqual(self.count(), before)
        self.assertEqual(self.keyed("clash", record(1)).status, 202, "the first answer still stands")

    def test_the_same_body_with_another_key_is_stored_again(self):
        self.assertNotEqual(self.keyed("one", record(1)).json()["lsn"], self.keyed("two", record(1)).json()["lsn"])
        self.assertNotEqual(self.keyed("three", record(1)).json()["lsn"], self.keyed("THREE", record(1)).json()["lsn"], "keys are case-sensitive")

    def test_keys_are_1_to_255_visible_ascii(self):
        for key in ("k", "k" * 255, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "0"):
            with self.subTest(key):
                first = self.keyed(key, record(1))
                self.assertEqual(first.status, 202, first)
                self.check_repeat(first, self.keyed(key, record(1)))
        before = self.count()
        for key in ("", "k" * 256, "a b", "a\tb", "\xe9", "k" * 5000):
            with self.subTest(key[:10]):
                self.assertIn(self.keyed(key, record(1)).status, (400, 422))
        with self.server.connect() as connection:
            body = encode(record(1))
            connection.send(b"POST /v1/logs HTTP/1.1\r\nHost: t\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertIn(connection.response().status, (400, 422))
        self.assertEqual(self.count(), before)

    def test_a_refused_request_does_not_take_the_key(self):
        """422 stored nothing, so there is no first answer to repeat as success; a corrected body must not be told 'duplicate'."""
        self.assertEqual(self.keyed("fix", {}).status, 422)
        answer = self.keyed("fix", record(1))
        self.assertNotIn("x-sluice-duplicate", answer.headers)
        self.assertIn(answer.status, (202, 422))

    def test_many_at_once_store_one(self):
        answers = []
        start = threading.Barrier(12)

        def client():
            with self.server.connect() as connection:
                start.wait(10)
                for number in range(20):
                    connection.send(request_bytes("POST", "/v1/logs", encode(record(number)), {"Idempotency-Key": f"at-once-{number}"}))
                    answers.append((number, connection.response()))
        before = self.count()
        threads = [threading.Thread(target=client) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(len(answers), 240)
        self.assertEqual({answer.status for _, answer in answers}, {202})
        for number in range(20):
            self.assertEqual(len({answer.json()["lsn"] for n, answer in answers if n == number}), 1)
            self.assertEqual(sum("x-sluice-duplicate" not in answer.headers for n, answer in answers if n == number), 1, "one of them is the first")
        self.assertEqual(self.count(), before + 20)

    def test_pipelined_repeats_store_one(self):
        wire = request_bytes("POST", "/v1/logs", encode(record(1)), {"Idempotency-Key": "piped"})
        before = self.count()
        with self.server.connect() as connection:
            connection.send(wire * 50)
            answers = [connection.response() for _ in range(50)]
        self.assertEqual({(answer.status, answer.json()["lsn"]) for answer in answers}, {(202, before + 1)})
        self.assertEqual(["x-sluice-duplicate" in answer.headers for answer in answers], [False] + [True] * 49)
        self.assertEqual(self.count(), before + 1)

    def test_pipelined_other_body_under_the_key_in_flight_is_422(self):
        one = request_bytes("POST", "/v1/logs", encode(record(1)), {"Idempotency-Key": "flight"})
        two = request_bytes("POST", "/v1/logs", encode(record(2)), {"Idempotency-Key": "flight"})
        before = self.count()
        with self.server.connect() as connection:
            connection.send(one + two + one)
            self.assertEqual([connection.response().status for _ in range(3)], [202, 422, 202])
        self.assertEqual(self.count(), before + 1)

    def test_an_array_with_bad_elements_answers_the_same_errors_again(self):
        body = [record(0), {}, record(2, level="x"), 5, record(4)]
        first = self.keyed("errors", body)
        self.assertEqual((first.status, first.json()["rejected"]), (202, 3))
        self.check_repeat(first, self.keyed("errors", body))

    def test_long_lists_of_errors_are_repeated_too(self):
        for name, body in (("100", [record(1)] + [{"a": "x" * 50}] * 100), ("1000", [record(1)] + [{"a": "x" * 1000}] * 1000)):
            first = self.keyed(f"many-errors-{name}", body)
            before = self.count()
            self.assertEqual((first.status, first.json()["accepted"]), (202, 1))
            self.check_repeat(first, self.keyed(f"many-errors-{name}", body))
            self.assertEqual(self.count(), before)

    def test_the_first_answer_is_repeated_where_event_ids_repeat_as_well(self):
        self.assertEqual(self.keyed("ids-0", event(event_id="i0"), "/v1/events").status, 202)
        bodies = [[event(event_id="i1"), event(event_id="i1"), event(event_id="i2")], [event(event_id="i3"), event(event_id="i0"), event(event_id="i4")],
                  [event(event_id="i0"), event(event_id="i5"), {}]]
        for number, body in enumerate(bodies, 1):
            with self.subTest(number):
                first = self.keyed(f"ids-{number}", body, "/v1/events")
                self.assertEqual(first.status, 202)
                self.check_repeat(first, self.keyed(f"ids-{number}", body, "/v1/events"))

    def test_a_key_is_taken_also_when_all_its_events_were_stored_before(self):
        self.assertEqual(self.server.post("/v1/events", [event(event_id="all1"), event(event_id="all2")]).status, 202)
        first = self.keyed("all", [event(event_id="all1"), event(event_id="all2")], "/v1/events")
        self.assertEqual(first.status, 202)
        self.assertEqual(self.keyed("all", event(event_id="all3"), "/v1/events").status, 422, "another body under the same key")
        again = self.keyed("all", [event(event_id="all1"), event(event_id="all2")], "/v1/events")
        self.check_repeat(first, again)

    def test_keys_and_event_ids_outlive_a_restart(self):
        body = [record(0), {}, record(2, level="x")]
        events = [event(event_id="r1"), event(event_id="r2")]
        with Server() as server:
            one = self.keyed("one", record(1), server=server)
            array = self.keyed("array", body, server=server)
            single = server.post("/v1/events", event(event_id="r0"))
            self.assertEqual(server.post("/v1/events", events).status, 202)
            lsn = server.get("/v1/durable?lsn=0").json()["durable_lsn"]
            for stop in (server.stop, server.kill9):
                stop()
                server.start()
                self.check_repeat(one, self.keyed("one", record(1), server=server))
                self.check_repeat(array, self.keyed("array", body, server=server))
                self.assertEqual(self.keyed("one", record(2), server=server).status, 422)
                self.assertEqual(server.post("/v1/events", event(event_id="r0")).json(), single.json())
                self.assertEqual(server.post("/v1/events", events).status, 202)
                self.assertEqual(server.get("/v1/durable?lsn=0").json()["durable_lsn"], lsn, "a repeat was stored again")
            self.assertEqual(len(server.dump()), lsn)

    def test_the_ttl_ends(self):
        with Server("--set", "dedup.ttl=1s") as server:
            first = self.keyed("short", record(1), server=server)
            time.sleep(2.2)
            again = self.keyed("short", record(1), server=server)
            self.assertEqual(again.status, 202)
            self.assertNotEqual(again.json()["lsn"], first.json()["lsn"])


class Headers(Api):
    def test_ack_memory_on_request(self):
        answer = self.post("/v1/logs", record("memory"), {"X-Sluice-Ack": "memory"})
        self.assertEqual((answer.status, answer.headers["x-sluice-ack"]), (202, "memory"))
        answer = self.post("/v1/logs", [record("memory"), record("memory")], {"X-Sluice-Ack": "memory"})
        self.assertEqual((answer.status, answer.headers["x-sluice-ack"], answer.json()["accepted"]), (202, "memory", 2))
        wait_until(lambda: sum(b"record memory" in line for line in self.server.dump_lines()) == 3)
        answer = self.post("/v1/logs", record(1), {"X-Sluice-Ack": "durable"})
        self.assertEqual((answer.status, answer.headers["x-sluice-ack"]), (202, "durable"))

    def test_ack_memory_by_default_when_configured(self):
        with Server("--set", "store.ack=memory") as server:
            self.assertEqual(server.post("/v1/logs", record(1)).headers["x-sluice-ack"], "memory")
            self.assertEqual(server.post("/v1/logs", record(1), {"X-Sluice-Ack": "durable"}).headers["x-sluice-ack"], "durable")
            self.assertEqual(server.stop(), 0)
            self.assertEqual(len(server.dump()), 2)

    def test_date_is_now_and_of_the_fixed_form(self):
        for answer in (self.server.get("/healthcheck"), self.server.post("/v1/logs", record(1)), self.server.get("/nothing")):
            self.assertRegex(answer.headers["date"], r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$")
            stamp = calendar.timegm(email.utils.parsedate(answer.headers["date"]))
            self.assertLess(abs(stamp - time.time()), 3)

    def test_errors_are_json_with_a_detail(self):
        for answer in (self.server.get("/nothing"), self.server.get("/v1/nothing"), self.server.request("DELETE", "/v1/logs")):
            self.assertEqual(answer.headers["content-type"].split(";")[0], "application/json")
            self.assertEqual(list(answer.json()), ["detail"])


class Operations(Api):
    def test_healthcheck(self):
        answer = self.server.get("/healthcheck")
        self.assertEqual((answer.status, answer.json()), (200, {"status": "ok"}))

    def check_ledger(self, ledger):
        """received = durable + rejected{cause} + shed{cause}, and what is on the way or was there already."""
        self.assertTrue(ledger["balanced"], ledger)
        records = ledger["records"]
        parts = sum(sum(value.values()) if isinstance(value, dict) else value for key, value in records.items() if key != "received")
        self.assertEqual(parts, records["received"], ledger)

    def test_the_ledger_balances_at_all_times(self):
        stop, problems = threading.Event(), []
        before = self.server.ledger()["records"]
        sent = [0] * 8

        def client(number):
            bodies = [record(1), [record(1), {}, record(3)], b"{broken", event(event_id="same"), b"\n".join([encode(record(1))] * 30), {}, [{}] * 3]
            with self.server.connect() as connection:
                while not stop.is_set():
                    body = encode(bodies[sent[number] % len(bodies)])
                    path = "/v1/events" if b"event_id" in body else "/v1/logs"
                    headers = {"Idempotency-Key": f"ledger-{sent[number] // 9}"} if sent[number] % 3 == 0 else {}
                    connection.send(request_bytes("POST", path, body, headers))
                    answer = connection.response()
                    if answer.status not in (202, 422):
                        problems.append(answer)
                    sent[number] += 1
        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        end, polls = time.monotonic() + 2.5, 0
        try:
            while time.monotonic() < end:
                self.check_ledger(self.server.ledger())
                polls += 1
        finally:
            stop.set()
            for thread in threads:
                thread.join(20)
        self.assertEqual(problems, [])
        self.assertGreater(polls, 50)
        after = self.server.ledger()
        self.check_ledger(after)
        self.assertEqual(after["records"].get("pending", 0), 0)
        self.assertGreater(after["records"]["durable"], before["durable"])
        self.assertGreater(sum(after["records"]["rejected"].values()), sum(before["rejected"].values()))
        self.assertEqual(self.count(), len(self.server.dump_lines()))
        self.assertEqual(self.server.get("/healthcheck").status, 200)

    def test_the_ledger_counts_what_was_sent(self):
        with Server() as server:
            server.post("/v1/logs", [record(1), {}, record(3)])
            server.post("/v1/logs", record(1))
            server.post("/v1/logs", {})
            ledger = server.ledger()
            self.check_ledger(ledger)
            self.assertEqual((ledger["records"]["received"], ledger["records"]["durable"], sum(ledger["records"]["rejected"].values())), (5, 3, 2))

    def test_durable_answers_at_once_when_it_is(self):
        lsn = self.accepted("/v1/logs", record(1))["lsn"]
        for wait in ("", "&wait=5s", "&wait=0s"):
            start = time.monotonic()
            answer = self.server.get(f"/v1/durable?lsn={lsn}{wait}")
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.json()["durable"])
            self.assertGreaterEqual(answer.json()["durable_lsn"], lsn)
            self.assertLess(time.monotonic() - start, 1)

    def test_durable_waits_and_gives_up(self):
        lsn = self.count() + 1000
        for wait, least, most in (("300ms", 0.25, 2), ("1s", 0.9, 3)):
            start = time.monotonic()
            answer = self.server.get(f"/v1/durable?lsn={lsn}&wait={wait}")
            self.assertTrue(least <= time.monotonic() - start <= most)
            self.assertLess(answer.status, 500)
            self.assertFalse(answer.json()["durable"])

    def test_durable_wakes_when_the_record_comes(self):
        lsn, answers = self.count() + 1, []
        waiters = [threading.Thread(target=lambda: answers.append((self.server.get(f"/v1/durable?lsn={lsn}&wait=10s"), time.monotonic()))) for _ in range(5)]
        for waiter in waiters:
            waiter.start()
        time.sleep(0.3)
        self.assertEqual(answers, [])
        self.assertEqual(self.accepted("/v1/logs", record(1))["lsn"], lsn)
        posted = time.monotonic()
        for waiter in waiters:
            waiter.join(15)
        self.assertEqual([answer.json()["durable"] for answer, _ in answers], [True] * 5)
        self.assertLess(max(at for _, at in answers) - posted, 1)

    def test_durable_waiting_holds_up_nobody_and_may_be_abandoned(self):
        lsn = self.count() + 100000
        connections = [self.server.connect() for _ in range(20)]
        for connection in connections:
            connection.send(request_bytes("GET", f"/v1/durable?lsn={lsn}&wait=30s"))
        time.sleep(0.1)
        start = time.monotonic()
        self.accepted("/v1/logs", record(1))
        self.assertLess(time.monotonic() - start, 1)
        for connection in connections:
            connection.close()
        self.assertEqual(self.server.get("/healthcheck").status, 200)

    def test_durable_refuses_bad_parameters(self):
        for query, name in (("", "lsn"), ("lsn=", "lsn"), ("lsn=x", "lsn"), ("lsn=-1", "lsn"), ("lsn=1.5", "lsn"), ("lsn=99999999999999999999999", "lsn"),
                            ("lsn=1&wait=x", "wait"), ("lsn=1&wait=5", "wait"), ("lsn=1&wait=-5s", "wait"), ("lsn=1&wait=5x", "wait"),
                            ("lsn=1&wait=s", "wait"), ("wait=1s", "lsn"), ("lsn=%zz", "lsn"), ("lsn=+1", "lsn")):
            with self.subTest(query):
                answer = self.server.get(f"/v1/durable?{query}")
                self.assertEqual(answer.status, 422, answer)
                self.assertIn(["query", name], [issue["loc"] for issue in answer.json()["detail"]])
                self.assertIn(answer.json()["detail"][0]["type"], PYDANTIC)
        answer = self.server.get("/v1/durable")
        self.assertEqual((answer.json()["detail"][0]["type"], answer.json()["detail"][0]["msg"]), ("missing", "Field required"))

    def test_bad_parameters_are_shown_in_pydantic_s_form(self):
        for query in ("", "lsn=x", "lsn=-1", "lsn=1&wait=x"):
            with self.subTest(query):
                self.check_detail(self.server.get(f"/v1/durable?{query}").json()["detail"])
        issue = self.server.get("/v1/durable?lsn=x").json()["detail"][0]
        self.assertEqual((issue["type"], issue["msg"]), ("int_parsing", "Input should be a valid integer, unable to parse string as an integer"))
        issue = self.server.get("/v1/durable?lsn=-1").json()["detail"][0]
        self.assertEqual((issue["type"], issue["msg"]), ("greater_than_equal", "Input should be greater than or equal to 0"))


SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')


def parse_prometheus(text):
    """Strict: returns {family: (type, [(name, labels, value)])} or raises."""
    assert text.endswith("\n"), "the last line ends with a line feed"
    families, family, kind, helped, series = {}, None, None, None, set()
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert line.split(" ", 3)[3], line
            assert helped not in families, f"{helped} twice"
            continue
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family == helped, f"TYPE {family} follows HELP {helped}"
            assert family not in families, f"{family} twice"
            assert kind in ("counter", "gauge", "histogram"), line
            families[family] = (kind, [])
            continue
        assert line and not line.startswith("#"), repr(line)
        match = SAMPLE.fullmatch(line)
        assert match, repr(line)
        name, inside, value = match.groups()
        labels, at = {}, 0
        while inside and at < len(inside):
            found = LABEL.match(inside, at)
            assert found, repr(line)
            assert found.group(1) not in labels, f"label twice: {line}"
            labels[found.group(1)] = found.group(2)
            at = found.end()
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        assert name in [family + suffix for suffix in suffixes], f"{name} below TYPE {family}"
        key = (name, tuple(sorted(labels.items())))
        assert key not in series, f"series twice: {line}"
        series.add(key)
        families[family][1].append((name, labels, float(value)))
    return families


class Prometheus(Api):
    def metrics(self):
        answer = self.server.get("/metrics")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["content-type"].split(";")[0], "text/plain")
        return parse_prometheus(answer.body.decode())

    def test_the_text_is_well_formed_and_well_named(self):
        for _ in range(40):
            self.server.post("/v1/logs", [record(1), {}])
        self.server.get("/nothing")
        for name, (kind, samples) in self.metrics().items():
            with self.subTest(name):
                self.assertTrue(name.startswith("sluice_"))
                self.assertEqual(kind == "counter", name.endswith("_total"), "counters end in _total, nothing else does")
                if kind == "counter":
                    self.assertTrue(all(value >= 0 for _, _, value in samples))
                if kind == "histogram":
                    self.assertTrue(name.endswith(("_seconds", "_bytes", "_records")), name)
                    self.check_histogram(name, samples)

    def check_histogram(self, name, samples):
        groups = {}
        for sample, labels, value in samples:
            rest = tuple(sorted((key, text) for key, text in labels.items() if key != "le"))
            groups.setdefault(rest, []).append((sample, labels.get("le"), value))
        for rest, group in groups.items():
            buckets = [(float(le), value) for sample, le, value in group if sample == name + "_bucket"]
            self.assertEqual([le for le, _ in buckets], sorted(le for le, _ in buckets))
            self.assertEqual([value for _, value in buckets], sorted(value for _, value in buckets), "buckets are cumulative")
            self.assertEqual(buckets[-1][0], float("inf"))
            count = [value for sample, _, value in group if sample == name + "_count"]
            total = [value for sample, _, value in group if sample == name + "_sum"]
            self.assertEqual((count, len(total)), ([buckets[-1][1]], 1), rest)

    def test_counters_count_and_never_fall(self):
        def counters():
            return {(name, tuple(sorted(labels.items()))): value for kind, samples in self.metrics().values() if kind == "counter"
                    for name, labels, value in samples}
        before = counters()
        self.accepted("/v1/logs", [record(i) for i in range(10)])
        self.server.post("/v1/logs", {})
        after = counters()
        self.assertEqual(set(before) - set(after), set(), "a series has gone")
        self.assertEqual([key for key in before if after[key] < before[key]], [])

        def total(values, name):
            return sum(value for (key, _), value in values.items() if key == name)
        self.assertEqual(total(after, "sluice_records_durable_total") - total(before, "sluice_records_durable_total"), 10)
        self.assertEqual(total(after, "sluice_records_rejected_total") - total(before, "sluice_records_rejected_total"), 1)

    def test_metrics_agree_with_the_ledger(self):
        samples = self.metrics()
        ledger = self.server.ledger()["records"]
        self.assertEqual(samples["sluice_records_durable_total"][1][0][2], ledger["durable"])


if __name__ == "__main__":
    unittest.main()
