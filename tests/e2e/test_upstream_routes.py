"""What the routes say of upstreams and take as orders for them, with a real forwarder behind: /v1/sinks, /v1/quarantine, /v1/durable, /metrics, top."""
import json
import re
import subprocess
import unittest

from harness import BINARY, Server, record, wait_until
from upstream import POISON, Upstream, ok, poison, status

QUICK = {"type": "http", "linger": "10ms", "backoff_min": "10ms", "backoff_max": "100ms", "pause_retry": "1h", "timeout": "2s"}


def sink(name, url):
    return [part for key, value in {**QUICK, "url": url}.items() for part in ("--set", f"sink.{name}.{key}={value}")]


def send(server, count, poisoned=0):
    """Good records and such as the upstream refuses; their LSNs."""
    texts = [f"good {n}" for n in range(count)] + [f"{POISON.decode()} {n}" for n in range(poisoned)]
    answer = server.post("/v1/logs", [record(n, message=text) for n, text in enumerate(texts)])
    assert answer.status == 202, answer
    return range(answer.json()["first_lsn"], answer.json()["last_lsn"] + 1)


def sinks(server):
    answer = server.get("/v1/sinks")
    assert answer.status == 200, answer
    return {of["name"]: of for of in answer.json()["data"]}


def metric(server, name, **labels):
    labels = ",".join(f'{key}="{value}"' for key, value in labels.items())
    match = re.search(rf"^{name}{{{re.escape(labels)}}} ([-0-9.e+]+)$", server.get("/metrics").body.decode(), re.M)
    assert match, f"no {name}{{{labels}}}"
    return float(match.group(1))


def settled(server, lsns, name="archive"):
    """When everything up to there has gone its way: a sink's picture may be some 50 ms older than the log."""
    wait_until(lambda: sinks(server)[name]["delivered_lsn"] >= lsns[-1], timeout=60)
    return sinks(server)[name]


class UpstreamRoutes(unittest.TestCase):
    def test_every_view_of_a_sink_says_the_same(self):
        with Upstream() as up, Server(*sink("archive", up.url())) as server:
            lsns = send(server, 500)
            of = settled(server, lsns)
            self.assertEqual((of["state"], of["reason"], of["breaker"], of["delivered"]), ("running", None, "closed", 500))
            self.assertEqual(server.ledger()["sinks"]["archive"]["delivered"], 500)
            self.assertEqual(server.get(f"/v1/durable?lsn={lsns[-1]}").json()["sinks"], {"archive": lsns[-1]})
            self.assertEqual(metric(server, "sluice_sink_delivered_records_total", sink="archive"), 500)
            self.assertEqual(metric(server, "sluice_sink_state", sink="archive"), 0)
            self.assertEqual(metric(server, "sluice_sink_ledger_imbalance_records", sink="archive"), 0)
            self.assertGreater(of["body_bytes"], 0)
            self.assertEqual(server.get("/healthcheck").status, 200)

    def test_a_paused_sink_says_why_and_goes_on_when_told(self):
        with Upstream() as up, Server(*sink("archive", up.url())) as server:
            up.mode = status(403)
            lsns = send(server, 10)
            wait_until(lambda: sinks(server)["archive"]["state"] == "paused", timeout=30)
            of = sinks(server)["archive"]
            self.assertIn("not now", of["reason"])
            self.assertEqual(of["pending"], 10)
            self.assertEqual(metric(server, "sluice_sink_state", sink="archive"), 2)
            up.mode = ok()
            answer = server.post("/v1/sinks/archive/resume", b"")
            self.assertEqual((answer.status, answer.json()), (200, {"status": "resumed"}))
            self.assertEqual(settled(server, lsns)["delivered"], 10)

    def test_quarantine_is_paged_shown_requeued_and_dropped(self):
        with Upstream() as up, Server(*sink("archive", up.url())) as server:
            up.mode = poison()
            self.assertEqual(settled(server, send(server, 20, poisoned=5))["quarantined"], 5)
            items, cursor = [], 0
            while cursor is not None:
                page = server.get(f"/v1/quarantine?sink=archive&limit=2&cursor={cursor}").json()
                self.assertLessEqual(len(page["data"]), 2)
                items, cursor = items + page["data"], page["next_cursor"]
            ids = [item["id"] for item in items]
            self.assertEqual((len(ids), ids), (5, sorted(set(ids))))
            shown = server.get(f"/v1/quarantine/{ids[0]}").json()
            self.assertIn(POISON.decode(), shown["record"]["message"])
            self.assertEqual(shown["status"], 400)
            self.assertIn("cannot parse", shown["reason"])

            dropped = server.post(f"/v1/quarantine/{ids[0]}/drop", b"")
            self.assertEqual((dropped.status, dropped.json()), (200, {"status": "dropped", "records": 1}))
            self.assertEqual(server.get(f"/v1/quarantine/{ids[0]}").status, 404)
            self.assertEqual(server.post(f"/v1/quarantine/{ids[0]}/requeue", b"").status, 404)
            up.mode = ok()
            again = server.post("/v1/sinks/archive/requeue", b"")
            self.assertEqual((again.status, again.json()), (200, {"status": "requeued", "records": 4}))
            wait_until(lambda: sinks(server)["archive"]["quarantined"] == 0, timeout=30)
            of = sinks(server)["archive"]
            self.assertEqual((of["delivered"], of["expired"]["dropped"], of["balances"]), (24, 1, True))
            self.assertEqual(server.get("/v1/quarantine").json(), {"data": [], "next_cursor": None})

    def test_orders_about_nobody_change_nothing(self):
        with Upstream() as up, Server(*sink("archive", up.url())) as server:
            up.mode = poison()
            self.assertEqual(settled(server, send(server, 1, poisoned=2))["quarantined"], 2)
            for path in ("/v1/sinks/nobody/drop", "/v1/sinks/%00/drop", "/v1/sinks/archive%00x/drop", "/v1/sinks/nobody/resume",
                         "/v1/sinks/*/drop", "/v1/quarantine/0/drop", "/v1/quarantine/999999/drop", "/v1/quarantine/18446744073709551617/drop"):
                self.assertEqual(server.post(path, b"").status, 404, path)
            for path in ("/v1/quarantine/x/drop", "/v1/quarantine/-1/drop", "/v1/quarantine/1%2F2/requeue", "/v1/quarantine/%/drop"):
                self.assertEqual(server.post(path, b"").status, 422, path)
            self.assertEqual(server.get("/v1/quarantine?sink=nobody").status, 404)
            self.assertEqual(server.get("/v1/quarantine/1/drop").status, 405)
            self.assertEqual(sinks(server)["archive"]["quarantined"], 2)

    def test_top_has_a_block_for_each_sink(self):
        with Upstream() as up, Server(*sink("archive", up.url()), *sink("b-2", up.url())) as server:
            settled(server, send(server, 10))
            out = subprocess.run([BINARY, "top", "--url", f"127.0.0.1:{server.port}", "--interval", "0.3", "--count", "1"],
                                 capture_output=True, timeout=30, check=True).stdout
            shown = json.loads(out)["sinks"]
            self.assertEqual(set(shown), {"archive", "b-2"})
            self.assertEqual((shown["archive"]["state"], shown["archive"]["breaker"], shown["archive"]["pending"]), ("running", "closed", 0))


if __name__ == "__main__":
    unittest.main()
