"""Real logs of four systems through the running server, which dies in the middle: each acknowledged line is there once, in order."""
import glob
import importlib.machinery
import importlib.util
import json
import os
import socket
import unittest

from harness import ROOT, TEST_DATA, Connection, Server, request_bytes

loader = importlib.machinery.SourceFileLoader("log2records", os.path.join(ROOT, "tools", "log2records"))
spec = importlib.util.spec_from_loader("log2records", loader)
log2records = importlib.util.module_from_spec(spec)
loader.exec_module(log2records)

LOGS = sorted(glob.glob(os.path.join(TEST_DATA, "logs", "*.log")))
BATCH = 50


def line_bytes(record):
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


@unittest.skipUnless(LOGS, f"no real logs below {TEST_DATA} (set SLUICE_TEST_DATA)")
class RealLogs(unittest.TestCase):
    def test_every_line_parses_into_a_record_with_its_own_time_and_level(self):
        for path in LOGS:
            with open(path, encoding="utf-8", errors="replace") as lines:
                raw = [line.rstrip("\r\n") for line in lines]
            made = list(log2records.records(path))
            self.assertEqual([r["raw"] for r in made], raw)
            self.assertGreater(len({r["timestamp"] for r in made}), 50, path)
            self.assertLessEqual({r["level"] for r in made}, {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})

    def test_each_acknowledged_line_is_there_once_in_order_after_kill_9(self):
        sent, acked = [], []
        with Server() as server:
            for position, path in enumerate(LOGS):
                made = [line_bytes(r) for r in log2records.records(path)]
                with Connection(server.port) as connection:
                    for at in range(0, len(made), BATCH):
                        batch = made[at:at + BATCH]
                        sent.extend(batch)
                        # The server dies with this request under way in the middle of every second file.
                        dies = position % 2 == 1 and at == (len(made) // 2 // BATCH) * BATCH
                        connection.send(request_bytes("POST", "/v1/logs", b"\n".join(batch), {"Content-Type": "application/x-ndjson"}))
                        if dies:
                            server.kill9()
                        try:
                            answer = connection.response()
                        except (ConnectionError, AssertionError, socket.timeout):
                            answer = None
                        if answer is not None:
                            self.assertEqual(answer.status, 202, answer)
                            self.assertEqual(answer.json()["accepted"], len(batch))
                            acked.extend(batch)
                        if dies:
                            server.start()
                            connection.close()
                            connection.__init__(server.port)
            stored = [line[line.index(b'"record":') + 9:-1] for line in server.dump_lines()]
            server.kill9()
            server.start()
            self.assertEqual(stored, [line[line.index(b'"record":') + 9:-1] for line in server.dump_lines()])
            self.assertEqual(server.stop(), 0)
            self.assertEqual(server.verify().returncode, 0)
        self.assertGreater(len(acked), 7000)
        # Lines are unique: each carries its file and number.
        self.assertEqual(len(set(stored)), len(stored), "a line is in the log twice")
        place = {line: index for index, line in enumerate(stored)}
        self.assertTrue(set(stored) <= set(sent), "the log holds a line that nobody sent")
        places = [place.get(line) for line in acked]
        self.assertNotIn(None, places, "an acknowledged line is missing")
        self.assertEqual(places, sorted(places), "the lines are out of order")

    def test_the_tool_posts_files_to_a_server(self):
        with Server() as server:
            import subprocess
            result = subprocess.run([os.path.join(ROOT, "tools", "log2records"), "--to", f"http://127.0.0.1:{server.port}", *LOGS],
                                    capture_output=True, text=True, timeout=60)
            self.assertEqual(result.stdout, "8000 accepted, 0 rejected\n", result.stderr)
            self.assertEqual(len(server.dump_lines()), 8000)


if __name__ == "__main__":
    unittest.main()
