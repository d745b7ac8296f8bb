"""GET /v1/tail: records as they become durable, over a WebSocket; with filters, resumable, honest about what it leaves out."""
import os
import shutil
import tempfile
import threading
import time
import unittest

from harness import Server, record, wait_until
from test_query import idle, metric
from ws_client import PING, PONG, Refused, WebSocket


def lsns(messages):
    return [message["lsn"] for message in messages]


class Tail(unittest.TestCase):
    def test_a_tail_shows_what_is_accepted_after_it_opened_once_and_in_order(self):
        with Server() as server:
            server.post("/v1/logs", [record(i) for i in range(50)])
            with WebSocket(server) as tail:
                for i in range(50, 60):
                    server.post("/v1/logs", record(i))
                server.post("/v1/metrics", {"timestamp": "2025-08-25T10:00:00Z", "service": "a", "name": "cpu", "value": 1})
                server.post("/v1/logs", [record(i) for i in range(60, 1060)])
                messages = tail.messages(1011)
                self.assertEqual(lsns(messages), list(range(51, 1062)))
                self.assertTrue(tail.silent(0.3))
            dumped = server.dump("--from-lsn", "51")
            self.assertEqual([(m["lsn"], m["id"], m["kind"], m["record"]) for m in messages],
                             [(d["lsn"], d["id"], d["kind"], d["record"]) for d in dumped])
            self.assertEqual(list(messages[0]), ["lsn", "id", "kind", "received_at", "record"])
            idle(server)
            server.stop_clean()

    def test_a_record_is_shown_as_soon_as_it_is_durable(self):
        """The writer wakes the query thread; its own look around, four times a second, would take 10 s here."""
        with Server() as server, WebSocket(server) as tail:
            started = time.monotonic()
            for i in range(40):
                server.post("/v1/logs", record(i))
                self.assertEqual(tail.message()["lsn"], i + 1)
            self.assertLess(time.monotonic() - started, 5)

    def test_a_tail_resumes_with_exactly_the_record_that_is_asked_for(self):
        with Server() as server:
            server.post("/v1/logs", [record(i) for i in range(100)])
            for first in (1, 2, 50, 100):
                with self.subTest(first=first), WebSocket(server, f"/v1/tail?from_lsn={first}") as tail:
                    self.assertEqual(lsns(tail.messages(101 - first)), list(range(first, 101)))
                    self.assertTrue(tail.silent(0.1))
            with WebSocket(server, "/v1/tail?from_lsn=103") as tail:
                server.post("/v1/logs", [record(i) for i in range(100, 105)])
                self.assertEqual(lsns(tail.messages(3)), [103, 104, 105], "also with one that is still to come")

    def test_a_tail_that_reconnects_after_a_crash_misses_and_repeats_nothing(self):
        with Server() as server:
            seen = []
            for round_ in range(3):
                with WebSocket(server, f"/v1/tail?from_lsn={len(seen) + 1}") as tail:
                    server.post("/v1/logs", [record(i) for i in range(200)])
                    seen += lsns(tail.messages(150 if round_ < 2 else 600 - len(seen)))
                server.kill9()
                server.start()
            self.assertEqual(seen, list(range(1, 601)))

    def test_filters_of_the_query_string_hold(self):
        with Server() as server:
            with WebSocket(server, "/v1/tail?level=error&service=b&q=dis%6b") as tail:
                server.post("/v1/logs", [record(1, level="ERROR", service="b", message="disk full"), record(2, level="INFO", service="b", message="disk full"),
                                         record(3, level="ERROR", service="a", message="disk full"), record(4, level="ERROR", service="b", message="fan"),
                                         record(5, level="FATAL", service="b", message="the disk")])
                self.assertEqual(lsns(tail.messages(2)), [1, 5])
                self.assertTrue(tail.silent(0.2))
            with WebSocket(server, "/v1/tail?kind=metric,event&from_lsn=1") as tail:
                server.post("/v1/metrics", {"timestamp": "2025-08-25T10:00:00Z", "service": "a", "name": "cpu", "value": 1})
                server.post("/v1/events", {"timestamp": "2025-08-25T10:00:00Z", "event_type": "info", "source": "x", "message": "m"})
                self.assertEqual([message["kind"] for message in tail.messages(2)], ["metric", "event"])

    def test_a_subscribe_message_replaces_the_filter_and_a_bad_one_changes_nothing(self):
        with Server() as server:
            with WebSocket(server) as tail:
                tail.say({"type": "subscribe", "service": "b\u00fc&=%"})
                self.assertEqual(tail.message(), {"type": "subscribed", "from_lsn": 1})
                server.post("/v1/logs", [record(1), record(2, service="b\u00fc&=%")])
                self.assertEqual(tail.message()["lsn"], 2)
                for bad in ({"type": "subscribe", "level": "loud"}, {"type": "subscribe", "from_lsn": -1}, {"type": "dance"}, "{", "[]", "", '"x"', "{}"):
                    tail.say(bad)
                    answer = tail.message()
                    self.assertEqual(answer["type"], "error", bad)
                    self.assertTrue(answer["detail"])
                server.post("/v1/logs", [record(3), record(4, service="b\u00fc&=%")])
                self.assertEqual(tail.message()["lsn"], 4, "the filter before still holds")
                tail.say({"type": "subscribe", "from_lsn": 1})
                self.assertEqual(tail.message(), {"type": "subscribed", "from_lsn": 1})
                self.assertEqual(lsns(tail.messages(4)), [1, 2, 3, 4])
                tail.say({"type": "subscribe", "from_lsn": 2, "q": "record 3"})
                self.assertEqual(tail.message()["type"], "subscribed")
                self.assertEqual(tail.message()["lsn"], 3)

    def test_both_kinds_of_ping_are_answered(self):
        with Server() as server, WebSocket(server) as tail:
            tail.say({"type": "ping"})
            self.assertEqual(tail.message(), {"type": "pong"})
            tail.send_frame(PING, b"hello")
            tail.say({"type": "ping"})
            self.assertEqual(tail.message(), {"type": "pong"})
            self.assertEqual(tail.controls or tail.frame(), [(PONG, b"hello")] if tail.controls else (PONG, b"hello"))

    def test_a_large_record_is_one_message_and_control_frames_stay_out_of_it(self):
        with Server(small=False) as server, WebSocket(server, receive_buffer=4096, timeout=60) as tail:
            large = record(1, padding="x" * 12000000)  # more than the sockets hold
            server.post("/v1/logs", large)
            self.assertTrue(tail.connection.fill())  # it is under way
            for _ in range(5):
                tail.send_frame(PING, b"p" * 100)
                time.sleep(0.02)
            self.assertEqual(tail.message()["record"], large)
            server.post("/v1/logs", record(2))
            self.assertEqual(tail.message()["lsn"], 2)
            wait_until(lambda: len(tail.controls) == 5 or tail.controls.append(tail.frame()))
            self.assertEqual(tail.controls, [(PONG, b"p" * 100)] * 5)

    def test_a_slow_live_tail_is_told_what_it_missed_and_goes_on_with_the_newest(self):
        with Server() as server:
            with WebSocket(server, receive_buffer=4096, timeout=60) as tail:
                total = 0
                for _ in range(60):  # far more than the sockets between us hold
                    server.post("/v1/logs", [record(i, padding="x" * 300) for i in range(1000)])
                    total += 1000
                self.assertEqual(metric(server, "sluice_tail_gaps_total"), 0, "said when it can be heard")
                self.assertLess(server.resident_bytes(), 400e6)
                seen, gaps = [], []
                while not seen or seen[-1] < total:
                    message = tail.message()
                    if message.get("type") == "gap":
                        gaps.append((message["from_lsn"], message["to_lsn"]))
                        seen += range(message["from_lsn"], message["to_lsn"] + 1)
                    else:
                        seen.append(message["lsn"])
                self.assertEqual(seen, list(range(1, total + 1)), "records and gaps together are the whole log, in order")
                self.assertGreaterEqual(len(gaps), 1)
                server.post("/v1/logs", record(1))
                self.assertEqual(tail.message()["lsn"], total + 1)
            self.assertGreaterEqual(metric(server, "sluice_tail_gaps_total"), 1)

    def test_a_tail_that_catches_up_slowly_misses_nothing(self):
        with Server() as server:
            for _ in range(40):
                server.post("/v1/logs", [record(i, padding="x" * 300) for i in range(1000)])
            with WebSocket(server, "/v1/tail?from_lsn=1", receive_buffer=4096, timeout=60) as tail:
                time.sleep(1)
                self.assertEqual(lsns(tail.messages(40000)), list(range(1, 40001)))

    def test_an_expired_beginning_is_a_gap_first(self):
        with Server("--set", "store.segment_bytes=4M", "--set", "server.max_body=1M", "--set", "store.retention_bytes=24M", "--set", "store.compact=false") as server:
            number = 0
            deadline = time.monotonic() + 60
            while metric(server, "sluice_store_first_lsn") == 1 and time.monotonic() < deadline:
                server.post("/v1/logs", [record(number + i, padding=os.urandom(2000).hex()) for i in range(100)])
                number += 100
            first = int(metric(server, "sluice_store_first_lsn"))
            self.assertGreater(first, 1)
            with WebSocket(server, "/v1/tail?from_lsn=1", timeout=60) as tail:
                gap = tail.message()
                self.assertEqual((gap["type"], gap["from_lsn"]), ("gap", 1), gap)
                self.assertGreaterEqual(gap["to_lsn"] + 1, first)
                self.assertEqual(tail.message()["lsn"], gap["to_lsn"] + 1)

    def test_a_stop_closes_tails_with_1001(self):
        with Server() as server:
            tails = [WebSocket(server) for _ in range(5)]
            server.post("/v1/logs", record(1))
            codes = []
            readers = [threading.Thread(target=lambda t=tail: codes.append(t.close_code())) for tail in tails]
            for reader in readers:
                reader.start()
            started = time.monotonic()
            server.stop_clean()
            for reader in readers:
                reader.join()
            self.assertEqual(codes, [1001] * 5)
            self.assertLess(time.monotonic() - started, 10)
            for tail in tails:
                tail.close()

    def test_a_client_that_closes_gets_its_close_back(self):
        with Server() as server:
            with WebSocket(server) as tail:
                tail.send_frame(8, b"\x03\xe8bye")
                self.assertEqual(tail.close_code(), 1000)
            idle(server)

    def test_a_client_that_breaks_the_protocol_is_closed(self):
        with Server() as server:
            for opcode, payload, mask, code in [(2, b"binary", True, 1003), (1, b"unmasked", False, 1002), (1, b"\xff", True, 1007), (1, b"x" * 70000, True, 1009)]:
                with self.subTest(code=code), WebSocket(server) as tail:
                    tail.send_frame(opcode, payload, mask)
                    self.assertEqual(tail.close_code(), code)
            idle(server)
            server.stop_clean()

    def test_tails_over_the_limit_are_503_before_the_upgrade(self):
        with Server("--set", "query.max_active=2") as server:
            held = [WebSocket(server) for _ in range(2)]
            with self.assertRaises(Refused) as refused:
                WebSocket(server)
            self.assertEqual((refused.exception.response.status, refused.exception.response.headers["retry-after"]), (503, "1"))
            held.pop().close()
            idle_tails = wait_until(lambda: metric(server, "sluice_tails_active") == 1)
            self.assertTrue(idle_tails)
            with WebSocket(server):
                pass
            held.pop().close()

    def test_what_is_no_upgrade_or_no_filter_is_refused(self):
        with Server() as server:
            self.assertEqual(server.get("/v1/tail").status, 426)
            for query in ("from_lsn=x", "level=loud", "kind=dog"):
                with self.assertRaises(Refused) as refused:
                    WebSocket(server, "/v1/tail?" + query)
                self.assertEqual(refused.exception.response.status, 422, query)
            self.assertEqual(server.request("POST", "/v1/tail", b"{}").status, 405)
            idle(server)

    def test_a_tail_needs_the_scope_read(self):
        base = tempfile.mkdtemp(prefix="sluice-e2e-")
        self.addCleanup(shutil.rmtree, base, ignore_errors=True)
        tokens = os.path.join(base, "tokens")
        with open(os.open(tokens, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as out:
            out.write("w writer-token ingest\nr reader-token read\n")
        with Server("--set", "auth.enabled=true", "--set", f"auth.tokens={tokens}") as server:
            for headers, status in [({}, 401), ({"Authorization": "Bearer writer-token"}, 403)]:
                with self.assertRaises(Refused) as refused:
                    WebSocket(server, headers=headers)
                self.assertEqual(refused.exception.response.status, status)
            with WebSocket(server, headers={"Authorization": "Bearer reader-token"}) as tail:
                server.post("/v1/logs", record(1), {"Authorization": "Bearer writer-token"})
                self.assertEqual(tail.message()["lsn"], 1)

    def test_many_tails_all_see_everything_while_clients_come_and_go(self):
        with Server() as server:
            tails = [WebSocket(server, timeout=60) for _ in range(40)]
            stop = threading.Event()

            def restless():
                while not stop.is_set():
                    with WebSocket(server) as tail:
                        tail.say({"type": "subscribe", "service": "e2e"})
                        tail.message()
            thread = threading.Thread(target=restless)
            thread.start()
            try:
                for first in range(0, 2000, 20):
                    server.post("/v1/logs", [record(i) for i in range(first, first + 20)])
                for tail in tails:
                    self.assertEqual(lsns(tail.messages(2000)), list(range(1, 2001)))
            finally:
                stop.set()
                thread.join()
            for tail in tails:
                tail.close()
            idle(server)
            server.stop_clean()


if __name__ == "__main__":
    unittest.main()
