"""Reading: GET /v1/logs|metrics|events as pages and as NDJSON, against what was sent and what the log holds."""
import glob
import http.client
import json
import os
import random
import re
import shutil
import tempfile
import threading
import time
import unittest
from urllib.parse import quote, urlencode

from harness import SMALL, Server, record, request_bytes, wait_until

LEVELS = ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
SLOW = bool(os.environ.get("SLUICE_TEST_SLOW"))


def metric(server, name):
    match = re.search(rf"^{name} ([0-9.e+]+)$", server.get("/metrics").body.decode(), re.M)
    assert match, f"no metric {name}"
    return float(match.group(1))


def path(route="/v1/logs", **parameters):
    return route + ("?" + urlencode(parameters) if parameters else "")


def page(server, route="/v1/logs", **parameters):
    """One page over a client that understands chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path(route, **parameters))
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, (answer.status, body)
    return json.loads(body)


def walk(server, route="/v1/logs", **parameters):
    """Every record, page after page."""
    found, cursor = [], None
    for _ in range(10000):
        answer = page(server, route, **parameters, **({"cursor": cursor} if cursor else {}))
        found += answer["data"]
        cursor = answer["next_cursor"]
        if cursor is None:
            return found
    raise AssertionError("pages without end")


def stream(server, route="/v1/logs", **parameters):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path(route, **parameters), headers={"Accept": "application/x-ndjson", "Connection": "close"})
    return connection.getresponse()


def lines(server, route="/v1/logs", **parameters):
    with stream(server, route, **parameters) as answer:
        assert answer.status == 200 and answer.headers["Content-Type"] == "application/x-ndjson", answer.headers
        body = answer.read()
    assert not body or body.endswith(b"\n")
    return [json.loads(line) for line in body.splitlines()]


def lsns(found):
    return [item["lsn"] for item in found]


def idle(server):
    wait_until(lambda: metric(server, "sluice_queries_active") == 0)


class Pages(unittest.TestCase):
    def test_pages_walk_every_record_once_in_both_orders(self):
        with Server() as server:
            for first in range(0, 1000, 50):
                server.post("/v1/logs", [record(i) for i in range(first, first + 50)])
            for limit in (1000, 97, 10):
                self.assertEqual(lsns(walk(server, limit=limit, order="asc")), list(range(1, 1001)))
                self.assertEqual(lsns(walk(server, limit=limit)), list(range(1000, 0, -1)))
            self.assertEqual(server.stop(), 0)

    def test_a_page_gives_back_the_bytes_that_were_sent(self):
        odd = b'{ "timestamp":"2025-08-25T10:00:00Z","service":"s\\u00e9", "level":"info","message":"m",\n "n":18446744073709551616, "x":1.10, "a":[1 ,2]}'
        with Server() as server:
            sent = server.post("/v1/logs", odd).json()
            answer = server.get("/v1/logs")
            self.assertIn(b'"record":' + odd + b"}", answer.body)
            item = answer.json()["data"][0]
            self.assertEqual(list(item), ["id", "lsn", "received_at", "record"])
            self.assertEqual((item["id"], item["lsn"]), (sent["id"], sent["lsn"]))
            self.assertRegex(item["received_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
            self.assertEqual(list(answer.json()), ["data", "next_cursor", "scanned_bytes"])

    def test_what_was_answered_202_is_found_at_once(self):
        with Server() as server:
            for i in range(100):
                server.post("/v1/logs", record(i))
                found = server.get(f"/v1/logs?limit=1&correlation_id=n-{i}").json()["data"]
                self.assertEqual([item["record"]["message"] for item in found], [f"record {i}"])

    def test_filters_find_what_they_name_and_nothing_else(self):
        with Server() as server:
            sent = server.post("/v1/logs", [record(1, level="warn"), record(2, level="ERROR", service="b"), record(3, level="debug", message="say \"NEEDLE\" twice"),
                                     record(4, level="fatal", timestamp="2025-08-25T12:00:00Z"), 
                                            {"timestamp": "2025-08-25T10:00:00Z", "service": "e2e", "level": "INFO", "message": "", "x_correlation_id": "n-x"}])
            self.assertEqual(sent.json()["accepted"], 5, sent)
            server.post("/v1/metrics", [{"timestamp": "2025-08-25T10:00:00Z", "service": "a", "name": name, "value": 1} for name in ("cpu", "mem", "cpu")])
            server.post("/v1/events", [{"timestamp": "2025-08-25T10:00:00Z", "event_type": kind, "source": source, "message": "m"}
                                       for kind, source in (("info", "x"), ("error", "y"))])
            for expected, route, parameters in [
                    ([5, 4, 3, 2, 1], "/v1/logs", {}),
                    ([4, 2, 1], "/v1/logs", {"level": "warning"}),
                    ([4], "/v1/logs", {"level": "CRITICAL"}),
                    ([2], "/v1/logs", {"service": "b"}),
                    ([3], "/v1/logs", {"q": 'say "NEEDLE"'}),
                    ([], "/v1/logs", {"q": "needle"}),
                    ([4], "/v1/logs", {"start": "2025-08-25T11:00:00Z"}),
                    ([5, 3, 2, 1], "/v1/logs", {"end": "2025-08-25T10:00:00.123456Z"}),
                    ([], "/v1/logs", {"start": "now-5m"}),
                    ([2], "/v1/logs", {"correlation_id": "n-2"}),
                    ([5], "/v1/logs", {"correlation_id": "n-x"}),
                    ([8, 6], "/v1/metrics", {"name": "cpu"}),
                    ([7], "/v1/metrics", {"name": "mem", "order": "asc"}),
                    ([10], "/v1/events", {"source": "y"}),
                    ([10], "/v1/events", {"level": "error"})]:
                with self.subTest(route=route, parameters=parameters):
                    self.assertEqual(lsns(page(server, route, **parameters)["data"]), expected)
                    self.assertEqual(lsns(lines(server, route, **parameters)), expected)

    def test_a_message_is_found_however_its_sender_spelt_it(self):
        def spelt(message):
            return b'{"timestamp":"2025-08-25T10:00:00Z","service":"e2e","level":"INFO","message":"%s"}' % message
        messages = [rb"nothing of it", rb"xabcdx", rb"xa\u0062c\u0064x", rb"path\/to\/file", rb"path\u002fto/file", rb"path/to/file",
                    rb"say \"abcd\" twice", rb"say \"nothing\" twice", rb"K\u00f6ln", "K\u00f6ln".encode(), rb"tab\tabcd"]
        with Server() as server:
            for message in messages:
                self.assertEqual(server.post("/v1/logs", spelt(message)).status, 202)
            for expected, q in [([2, 3, 7, 11], "abcd"), ([4, 5, 6], "path/to/file"), ([7, 8], 'say "'), ([9, 10], "K\u00f6ln"), ([11], "tab\tabcd"),
                                ([7, 8], "twice"), ([], "u0062"), ([1, 8], "nothing")]:
                with self.subTest(q=q):
                    self.assertEqual(lsns(page(server, q=q, order="asc")["data"]), expected)
                    self.assertEqual(lsns(lines(server, q=q, order="asc")), expected)

    def test_bad_parameters_are_422_with_their_names(self):
        with Server() as server:
            for query, name in [("limit=0", "limit"), ("limit=1001", "limit"), ("order=up", "order"), ("start=yesterday", "start"),
                                ("level=loud", "level"), ("cursor=AAAA", "cursor"), ("name=x", "name")]:
                with self.subTest(query=query):
                    for accept in ("*/*", "application/x-ndjson"):
                        answer = server.get("/v1/logs?" + query, {"Accept": accept})
                        self.assertEqual((answer.status, answer.json()["detail"][0]["loc"]), (422, ["query", name]))

    def test_a_cursor_survives_a_restart_and_new_records_but_not_another_query(self):
        with Server() as server:
            server.post("/v1/logs", [record(i) for i in range(100)])
            first = page(server, limit=30)
            server.kill9()
            server.start()
            server.post("/v1/logs", [record(i) for i in range(100, 150)])
            second = page(server, limit=1000, cursor=first["next_cursor"])
            self.assertEqual(lsns(first["data"] + second["data"]), list(range(100, 0, -1)), "a page goes on where it stood")
            self.assertIsNone(second["next_cursor"])
            self.assertEqual(server.get(path(cursor=first["next_cursor"], service="x")).status, 422)
            self.assertEqual(server.get(path(cursor=first["next_cursor"], order="asc")).status, 422)

    def test_the_last_page_says_that_it_is_the_last(self):
        with Server() as server:
            server.post("/v1/logs", [record(i) for i in range(20)])
            self.assertIsNone(page(server, limit=20)["next_cursor"])
            self.assertIsNotNone(page(server, limit=19)["next_cursor"])
            self.assertIsNone(page(server, limit=20, order="asc")["next_cursor"])

    def test_a_small_page_has_a_length_and_a_large_one_comes_in_chunks(self):
        with Server() as server:
            for first in range(0, 600, 100):
                server.post("/v1/logs", [record(i, padding="x" * 4000) for i in range(first, first + 100)])
            small = server.get("/v1/logs?limit=5")
            self.assertEqual(int(small.headers["content-length"]), len(small.body))
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            for _ in range(3):  # the connection goes on
                connection.request("GET", "/v1/logs?limit=600")
                answer = connection.getresponse()
                self.assertEqual(answer.headers["Transfer-Encoding"], "chunked")
                self.assertEqual(lsns(json.loads(answer.read())["data"]), list(range(600, 0, -1)))
            connection.close()

    def test_head_says_what_get_would(self):
        with Server() as server:
            server.post("/v1/logs", [record(i, padding="x" * 2000) for i in range(100)])
            with server.connect() as connection:
                for query, headers in [("limit=3", {}), ("limit=100", {}), ("limit=100", {"Accept": "application/x-ndjson"}), ("limit=3", {})]:
                    connection.send(request_bytes("HEAD", "/v1/logs?" + query, headers=headers))
                    answer = connection.response(head_request=True)
                    self.assertEqual(answer.status, 200)
                    self.assertEqual("content-length" in answer.headers, query == "limit=3", answer)
                connection.send(request_bytes("GET", "/v1/logs?limit=3"))
                answer = connection.response()
                self.assertEqual(lsns(answer.json()["data"]), [100, 99, 98], "no byte of a body came")
            idle(server)

    def test_answers_keep_the_order_of_pipelined_requests(self):
        with Server() as server:
            server.post("/v1/logs", record(0))
            with server.connect() as connection:
                body = json.dumps(record(1)).encode()
                connection.send(request_bytes("GET", "/v1/logs?order=asc") + request_bytes("POST", "/v1/logs", body) +
                                request_bytes("GET", "/v1/logs?order=asc") + request_bytes("GET", "/healthcheck"))
                answers = [connection.response() for _ in range(4)]
            self.assertEqual([answer.status for answer in answers], [200, 202, 200, 200])
            self.assertEqual(lsns(answers[0].json()["data"]), [1])
            self.assertEqual(answers[1].json()["lsn"], 2)
            self.assertEqual(lsns(answers[2].json()["data"]), [1, 2])

    def test_reading_needs_the_scope_read(self):
        base = tempfile.mkdtemp(prefix="sluice-e2e-")
        self.addCleanup(shutil.rmtree, base, ignore_errors=True)
        tokens = os.path.join(base, "tokens")
        with open(os.open(tokens, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as out:
            out.write("w writer-token ingest\nr reader-token read\n")
        with Server("--set", "auth.enabled=true", "--set", f"auth.tokens={tokens}") as server:
            for route in ("/v1/logs", "/v1/metrics", "/v1/events", "/v1/tail"):
                with self.subTest(route=route):
                    self.assertEqual(server.get(route).status, 401)
                    self.assertEqual(server.get(route, {"Authorization": "Bearer writer-token"}).status, 403)
                    self.assertEqual(server.get(route, {"Authorization": "Bearer reader-token"}).status, 426 if route == "/v1/tail" else 200)
            self.assertEqual(server.post("/v1/logs", record(1), {"Authorization": "Bearer reader-token"}).status, 403)
            self.assertEqual(server.post("/v1/logs", record(1), {"Authorization": "Bearer writer-token"}).status, 202)

    def test_a_rare_match_is_found_over_several_pages_when_time_is_short(self):
        """The page ends at query.timeout with what it has; its cursor leads on."""
        with Server("--set", "query.timeout=1ms") as server:
            server.post("/v1/logs", record(0, message="rare needle"))
            for first in range(0, 200, 10):
                server.post("/v1/logs", [record(i, padding="x" * 100000) for i in range(first, first + 10)])
            for order in ("asc", "desc"):
                found, cursor, pages = [], None, 0
                while pages == 0 or cursor:
                    answer = page(server, q="needle", order=order, **({"cursor": cursor} if cursor else {}))
                    found, cursor, pages = found + answer["data"], answer["next_cursor"], pages + 1
                self.assertEqual(lsns(found), [1], order)
                self.assertGreater(pages, 1, "20 MB took less than a millisecond?")
            self.assertEqual(lsns(walk(server, limit=1000, q="r")), list(range(201, 0, -1)), "pages that end early leave out nothing")
            self.assertEqual(lsns(walk(server, limit=1000, q="r", order="asc")), list(range(1, 202)))


class Oracle(unittest.TestCase):
    """Random questions against the same question asked of the dump."""

    def fill(self, server, dice):
        stamps = [f"2025-08-25T1{hour}:{minute:02}:00Z" for hour in range(3) for minute in range(0, 60, 7)]
        for _ in range(40):
            body = []
            for _ in range(dice.randrange(1, 60)):
                body.append({"timestamp": dice.choice(stamps), "service": dice.choice("abc"), "level": dice.choice(LEVELS),
                             "message": " ".join(dice.choice(["über", "disk", "full", "a\"b", "\\", "x\ny"]) for _ in range(dice.randrange(6))),
                             "correlation_id": f"c{dice.randrange(30)}", "padding": "p" * dice.choice([0, 0, 10, 3000])})
            server.post("/v1/logs", json.dumps(body, ensure_ascii=dice.random() < 0.5).encode())

    def question(self, dice):
        asked = {}
        if dice.random() < 0.3:
            asked["service"] = dice.choice("abcd")
        if dice.random() < 0.3:
            asked["level"] = dice.choice(LEVELS)
        if dice.random() < 0.2:
            asked["correlation_id"] = f"c{dice.randrange(33)}"
        if dice.random() < 0.4:
            asked["q"] = dice.choice(["über", "disk f", "a\"b", "\\", "x\ny", "nothing", "l"])
        if dice.random() < 0.3:
            asked["start"] = f"2025-08-25T1{dice.randrange(3)}:{dice.randrange(60):02}:00Z"
        if dice.random() < 0.3:
            asked["end"] = f"2025-08-25T1{dice.randrange(3)}:{dice.randrange(60):02}:00Z"
        if "start" in asked and "end" in asked and asked["start"] > asked["end"]:
            del asked["end"]
        return asked

    def answer(self, records, asked):
        def matches(item):
            sent = item["record"]
            return (item["kind"] == "log" and sent["service"] == asked.get("service", sent["service"])
                    and sent["correlation_id"] == asked.get("correlation_id", sent["correlation_id"])
                    and LEVELS.index(sent["level"]) >= LEVELS.index(asked.get("level", "TRACE"))
                    and asked.get("q", "") in sent["message"]
                    and asked.get("start", "") <= sent["timestamp"] <= asked.get("end", "9"))
        return [item["lsn"] for item in records if matches(item)]

    def test_random_questions_are_answered_as_by_a_naive_reader(self):
        seed = int(os.environ.get("SLUICE_TEST_SEED", "20250825"))
        dice = random.Random(seed)
        with Server() as server:
            self.fill(server, dice)
            for round_ in range(2):
                records = server.dump()
                for number in range(60):
                    asked = self.question(dice)
                    expected = self.answer(records, asked)
                    with self.subTest(seed=seed, round=round_, number=number, asked=asked):
                        self.assertEqual(lsns(lines(server, order="asc", **asked)), expected)
                        self.assertEqual(lsns(walk(server, limit=dice.choice([1000, 200, 37]), **asked)), expected[::-1])
                server.stop()
                server.start()


class Streams(unittest.TestCase):
    def test_a_stream_gives_every_record_on_a_line_of_its_own(self):
        with Server() as server:
            server.post("/v1/logs", json.dumps(record(0), indent=2).encode())
            for first in range(1, 5001, 500):
                server.post("/v1/logs", [record(i) for i in range(first, first + 500)])
            found = lines(server, order="asc")
            self.assertEqual(lsns(found), list(range(1, 5002)))
            self.assertEqual([item["record"] for item in found], [item["record"] for item in server.dump()])
            self.assertEqual(lsns(lines(server)), list(range(5001, 0, -1)))
            self.assertEqual(lsns(lines(server, limit=7)), list(range(5001, 4994, -1)), "a limit that is asked for counts")

    def test_a_client_that_does_not_read_costs_nothing_and_misses_nothing(self):
        with Server() as server:
            for first in range(0, 6000, 100):
                server.post("/v1/logs", [record(i, padding="x" * 8000) for i in range(first, first + 100)])
            before = server.resident_bytes()
            answers = [stream(server, order="asc") for _ in range(8)]
            time.sleep(1)
            self.assertEqual(metric(server, "sluice_queries_active"), 8)
            self.assertLess(metric(server, "sluice_query_scanned_bytes_total"), 8 * 25e6, "it is not read ahead of its client")
            self.assertLess(server.resident_bytes() - before, 150e6, "8 x 48 MB are asked for")
            start = time.monotonic()
            self.assertEqual(len(page(server, limit=10)["data"]), 10, "others are served")
            self.assertLess(time.monotonic() - start, 2)
            seen = [json.loads(line)["lsn"] for line in answers[0].read().splitlines()]
            self.assertEqual(seen, list(range(1, 6001)))
            for answer in answers:
                answer.close()
            idle(server)
            self.assertEqual(server.stop(), 0)

    def test_a_client_that_leaves_ends_its_query(self):
        with Server() as server:
            for first in range(0, 3000, 100):
                server.post("/v1/logs", [record(i, padding="x" * 8000) for i in range(first, first + 100)])
            for _ in range(20):
                with server.connect() as connection:
                    connection.send(request_bytes("GET", "/v1/logs", headers={"Accept": "application/x-ndjson"}))
                    connection.fill()
                with server.connect() as connection:
                    connection.send(request_bytes("GET", "/v1/logs?limit=1000"))
            idle(server)
            self.assertEqual(metric(server, "sluice_queries_total"), metric(server, "sluice_queries_finished_total"))
            server.stop_clean()

    def test_more_queries_than_allowed_are_503_with_retry_after(self):
        with Server("--set", "query.max_active=2") as server:
            for first in range(0, 3000, 100):
                server.post("/v1/logs", [record(i, padding="x" * 8000) for i in range(first, first + 100)])
            held = [stream(server) for _ in range(2)]
            refused = server.get("/v1/logs")
            self.assertEqual((refused.status, refused.headers["retry-after"]), (503, "1"))
            self.assertEqual(server.get("/v1/tail").status, 503)
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202, "ingest has its own limits")
            self.assertEqual(server.get("/healthcheck").status, 200)
            for answer in held:
                answer.close()
            idle(server)
            self.assertEqual(server.get("/v1/logs").status, 200)

    def test_a_client_of_http_1_0_gets_its_stream_until_the_end(self):
        with Server() as server:
            server.post("/v1/logs", [record(i) for i in range(500)])
            with server.connect() as connection:
                connection.send("GET /v1/logs?order=asc HTTP/1.0\r\nAccept: application/x-ndjson\r\n\r\n")
                while connection.fill():
                    pass
                head, body = connection.buffer.split(b"\r\n\r\n", 1)
            self.assertNotIn(b"chunked", head)
            self.assertEqual([json.loads(line)["lsn"] for line in body.splitlines()], list(range(1, 501)))

    def test_a_stop_ends_streams_without_pretending_that_they_are_whole(self):
        with Server() as server:
            for first in range(0, 3000, 100):
                server.post("/v1/logs", [record(i, padding="x" * 8000) for i in range(first, first + 100)])
            answer = stream(server)
            answer.readline()
            started = time.monotonic()
            stopper = threading.Thread(target=server.stop_clean)
            stopper.start()
            with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
                answer.read()
            stopper.join()
            self.assertLess(time.monotonic() - started, 10)

    def test_queries_go_on_beside_ingest_and_see_no_record_twice(self):
        with Server() as server:
            def ingest():
                for number in range(0, 20000, 200):
                    server.post("/v1/logs", [record(number + i) for i in range(200)])
            thread = threading.Thread(target=ingest)
            thread.start()
            rounds = 0
            while thread.is_alive() or rounds == 0:
                found = lsns(lines(server, order="asc"))
                self.assertEqual(found, list(range(1, len(found) + 1)), "dense: what is durable is shown, once")
                found = lsns(walk(server, limit=1000))
                self.assertEqual(found, list(range(len(found), 0, -1)))
                rounds += 1
            thread.join()
            self.assertEqual(len(lines(server)), 20000)
            server.stop_clean()


class Damage(unittest.TestCase):
    def walk_damaged(self, server):
        """(LSNs, damaged blocks) of all pages, or None when nothing is damaged."""
        found, damaged, cursor = [], 0, None
        while True:
            answer = page(server, limit=1000, order="asc", **({"cursor": cursor} if cursor else {}))
            found, damaged, cursor = found + lsns(answer["data"]), damaged + answer.get("damaged_blocks", 0), answer["next_cursor"]
            if cursor is None:
                return (found, damaged) if damaged else None

    def test_a_damaged_block_is_left_out_and_said(self):
        with Server() as server:
            for first in range(0, 2000, 50):
                server.post("/v1/logs", [record(i, padding=os.urandom(4000).hex()) for i in range(first, first + 50)])
            wait_until(lambda: glob.glob(os.path.join(server.data_dir, "log", "*.slc")), timeout=30)
            victim = sorted(glob.glob(os.path.join(server.data_dir, "log", "*.slc")))[0]
            with open(victim, "r+b") as file:
                middle = os.path.getsize(victim) // 2
                file.seek(middle)
                byte = file.read(1)
                file.seek(middle)
                file.write(bytes([byte[0] ^ 0xff]))
            # A view that still reads the raw file is given up once the archive has published the next.
            found, damaged = wait_until(lambda: self.walk_damaged(server), timeout=30)
            self.assertGreaterEqual(damaged, 1)
            self.assertEqual(found, sorted(set(found)))
            self.assertLess(len(found), 2000)
            self.assertGreater(len(found), 1500, "the rest is shown")
            body = stream(server).read().splitlines()
            self.assertEqual(json.loads(body[-1]), {"damaged_blocks": damaged})
            self.assertEqual(len(body) - 1, len(found))


if __name__ == "__main__":
    unittest.main()
