"""A sink of type sluice: two real servers, one sending to the other. Every record of the first is in the second exactly once, in order,
under its own id, over kill -9 of either. SLUICE_TEST_KILLS sets how often."""
import os
import random
import unittest

from harness import Server, record, wait_until

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "6"))


def sender_of(receiver_port, **more):
    settings = {"type": "sluice", "url": f"http://127.0.0.1:{receiver_port}", "linger": "10ms", "batch_records": "37",
                "backoff_min": "20ms", "backoff_max": "200ms", "pause_retry": "1s", **more}
    return Server(*[word for key, value in settings.items() for word in ("--set", f"sink.up.{key}={value}")])


def sink(server):
    return server.ledger()["sinks"]["up"]


class SluiceSink(unittest.TestCase):
    def expect_equal(self, sender, receiver):
        sent = [(line["lsn"], line["id"], line["kind"], line["record"]) for line in sender.dump()]
        got = [(line["origin"]["lsn"], line["id"], line["kind"], line["record"]) for line in receiver.dump()]
        self.assertEqual(len(got), len(sent))
        self.assertEqual(sorted(got), sent)

    def test_records_of_all_kinds_and_shapes_arrive_once(self):
        with Server() as receiver, sender_of(receiver.port) as sender:
            sender.post("/v1/logs", [record(n, nested={"h\u00e9": [1, None, "\n"]}) for n in range(100)])
            sender.post("/v1/logs", b'[{"timestamp" :\n"2025-08-25T10:00:00Z",\r\n"service":"s","level":"INFO",\n"message":"m"}\n]')
            sender.post("/v1/metrics", {"timestamp": "2025-08-25T10:00:00Z", "service": "s", "name": "n", "value": 1.5})
            sender.post("/v1/events", {"event_id": "e-1", "event_type": "info", "source": "s", "message": "m"})
            wait_until(lambda: sink(sender)["delivered"] == 103, 20)
            self.expect_equal(sender, receiver)

    def test_a_repeated_event_id_is_the_same_record_on_both_sides(self):
        with Server() as receiver, sender_of(receiver.port) as sender:
            for _ in range(3):
                sender.post("/v1/events", {"event_id": "e-1", "event_type": "info", "source": "s", "message": "m"})
            wait_until(lambda: sink(sender)["pending"] == 0, 20)
            self.expect_equal(sender, receiver)

    def test_kills_of_both_sides_leave_each_record_once(self):
        seed = random.randrange(1 << 32)
        choose = random.Random(seed)
        with Server() as receiver, sender_of(receiver.port) as sender:
            port = receiver.port
            receiver.arguments += ["--listen", f"127.0.0.1:{port}"]
            count = 0
            for _ in range(KILLS):
                sender.post("/v1/logs", [record(count + n) for n in range(400)])
                count += 400
                wait_until(lambda: sink(sender)["delivered"] >= count - 400 * choose.random(), 20)
                if choose.random() < 0.5:
                    sender.kill9()
                    sender.start()
                else:
                    receiver.kill9()
                    receiver.start()
            wait_until(lambda: sink(sender)["delivered"] == count, 30)
            self.assertEqual(sink(sender)["quarantined"], 0, f"seed {seed}")
            self.expect_equal(sender, receiver)

    def test_a_loop_pauses_the_sink_and_loses_nothing(self):
        with Server() as server:
            server.stop()
            server.arguments += ["--listen", f"127.0.0.1:{server.port}", "--set", "sink.up.type=sluice", "--set",
                                 f"sink.up.url=http://127.0.0.1:{server.port}", "--set", "sink.up.linger=10ms"]
            server.start()
            server.post("/v1/logs", [record(n) for n in range(5)])
            wait_until(lambda: sink(server)["state"] == "paused", 20)
            self.assertEqual((sink(server)["pending"], sink(server)["quarantined"]), (5, 0))
            self.assertEqual(len(list(server.dump())), 5)


if __name__ == "__main__":
    unittest.main()
