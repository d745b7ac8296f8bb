"""`sluice replay`: a part of the log once more to an upstream, beside a running server or without one. The oracle is that of forwarding: after
de-duplication by key each record of the range exactly once, duplicates byte-identical. SLUICE_TEST_KILLS sets how often a job is killed."""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import BINARY, Server, encode, record, wait_until
from test_forward import PATIENCE, QUICK, Watched, sink
from upstream import Oracle, Upstream, lost, poison, reset, slow, status

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "10"))
# Of the sink that --to makes: small requests, no patience.
KEYS = [part for key, value in QUICK.items() if key != "type" for part in ("--set", f"sink.{key}={value}")]


def command(server, *arguments):
    return [BINARY, "replay", "--data-dir", server.data_dir, *arguments]


def run(server, *arguments, timeout=120):
    return subprocess.run(command(server, *arguments), capture_output=True, timeout=timeout, env=server.environment)


def replay(server, *arguments, code=0):
    """The summary of a replay that ended with that exit code."""
    result = run(server, "--json", *arguments)
    assert result.returncode == code, f"exit code {result.returncode}: {result.stdout.decode()}{result.stderr.decode()}"
    return json.loads(result.stdout)


def send(server, count, first=0, path="/v1/logs", make=record, **more):
    body = b"\n".join(encode(make(first + i, **more)) for i in range(count))
    answer = server.post(path, body, {"Content-Type": "application/x-ndjson"})
    assert answer.status == 202, answer
    answer = answer.json()
    return list(range(answer["first_lsn"], answer["last_lsn"] + 1))


def metric(number, **more):
    return {"timestamp": "2025-08-25T10:00:00Z", "service": "e2e", "name": f"m{number % 2}", "value": number, **more}


class Nginx:
    """A real one: takes 20 requests a second, answers 429 to what is more, and writes down every request with its body."""

    CONFIG = """
daemon off; error_log %(base)s/error.log; pid %(base)s/pid; worker_processes 1;
events { worker_connections 64; }
http {
    log_format all escape=json '{"status":$status,"key":"$http_idempotency_key","body":"$request_body"}';
    client_body_buffer_size 1m; client_body_in_single_buffer on; client_body_temp_path %(base)s/body; proxy_temp_path %(base)s/proxy;
    fastcgi_temp_path %(base)s/fastcgi; uwsgi_temp_path %(base)s/uwsgi; scgi_temp_path %(base)s/scgi;
    limit_req_zone $binary_remote_addr zone=z:1m rate=20r/s; limit_req_status 429;
    server { listen 127.0.0.1:%(port)d; access_log %(base)s/access.log all;
             location / { limit_req zone=z burst=3 nodelay; proxy_pass http://127.0.0.1:%(inner)d; } }
    server { listen 127.0.0.1:%(inner)d; access_log off; location / { return 204; } }
}
"""

    def __init__(self, base):
        self.base = os.path.join(base, "nginx")
        os.mkdir(self.base)
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.port, inner = (one.getsockname()[1] for one in sockets)
        for one in sockets:
            one.close()
        with open(os.path.join(self.base, "conf"), "w") as config:
            config.write(self.CONFIG % {"base": self.base, "port": self.port, "inner": inner})

    def __enter__(self):
        self.process = subprocess.Popen(["nginx", "-c", os.path.join(self.base, "conf"), "-p", self.base, "-e", os.path.join(self.base, "error.log")])
        wait_until(lambda: self.is_up(), PATIENCE)
        return self

    def is_up(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def lines(self):
        with open(os.path.join(self.base, "access.log")) as log:
            return [line for line in map(json.loads, log) if line["key"]]

    @staticmethod
    def split(lines, status_code):
        """A line for each record of the requests with that status (one for a request whose body nginx did not read)."""
        return [{**line, "body": text} for line in lines if line["status"] == status_code for text in line["body"].strip().split("\n")]

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(PATIENCE)


class Replay(unittest.TestCase):
    maxDiff = 2000

    # which records

    def test_a_range_of_lsns_is_delivered_once_with_ids_and_bytes_as_they_are(self):
        with Upstream() as up, Server() as server:
            lsns = send(server, 500)
            summary = replay(server, "--to", up.url(), *KEYS, "--from-lsn", "101", "--to-lsn", "350")
            oracle = Oracle(up).check(range(101, 351))
            oracle.in_order()
            oracle.bytes_are_those_of(server.dump_lines())
            ids = {line["lsn"]: line["id"] for line in server.dump()}
            self.assertTrue(all(entry["id"] == ids[entry["lsn"]] for request in oracle.by_key() for entry in request.records()))
            self.assertEqual((summary["state"], summary["delivered"], summary["pending"]), ("finished", 250, 0))
            self.assertEqual(len(lsns), 500)
            server.stop_clean()

    def test_without_a_range_it_is_all_there_is_now(self):
        with Upstream() as up, Server() as server:
            lsns = send(server, 300)
            replay(server, "--to", up.url(), *KEYS)
            Oracle(up).check(lsns)

    def test_a_range_of_times(self):
        with Upstream() as up, Server() as server:
            send(server, 100, timestamp="2025-08-25T10:00:00Z")
            wanted = send(server, 100, timestamp="2025-08-25T11:00:00Z")
            send(server, 100, timestamp="2025-08-25T12:00:00Z")
            summary = replay(server, "--to", up.url(), *KEYS, "--from", "2025-08-25T10:30:00Z", "--to-time", "2025-08-25T13:30:00+02:00")
            Oracle(up).check(wanted)
            self.assertEqual((summary["delivered"], summary["filtered"]), (100, 200))

    def test_filters_take_what_they_name_and_nothing_else(self):
        def of(text):
            return [part for word in text.split() for part in (["--kind", word[5:]] if word.startswith("kind=") else ["--filter", word])]
        with Upstream() as up, Server() as server:
            send(server, 200)
            send(server, 50, service="billing", level="ERROR", host="node-7")
            send(server, 50, service="billing", level="INFO", run_id="r-1")
            send(server, 40, path="/v1/metrics", make=metric, gpu_id="GPU-3")
            dumped = server.dump()
            cases = {
                "service=billing": lambda line: line["record"]["service"] == "billing",
                "service=billing level=error": lambda line: line["record"].get("level") == "ERROR",
                "host=node-7": lambda line: line["record"].get("host") == "node-7",
                "run=r-1": lambda line: line["record"].get("run_id") == "r-1",
                "gpu=GPU-3 name=m1": lambda line: line["record"].get("name") == "m1",
                "kind=metric": lambda line: line["kind"] == "metric",
                "kind=log,event service=e2e": lambda line: line["kind"] == "log" and line["record"]["service"] == "e2e",
                "correlation_id=n-17 service=e2e": lambda line: line["lsn"] == 18,
                "q=record%2017": None,
            }
            for text, wants in cases.items():
                if wants is None:
                    continue
                with self.subTest(text):
                    up.requests, up.stored = [], []
                    expected = {line["lsn"] for line in dumped if wants(line)}
                    self.assertTrue(expected)
                    counted = replay(server, "--to", up.url(), "--dry-run", *of(text))
                    replay(server, "--to", up.url(), *KEYS, *of(text))
                    Oracle(up).check(expected)
                    self.assertEqual(counted["records"], len(expected))
            up.requests, up.stored = [], []
            replay(server, "--to", up.url(), *KEYS, "--filter", "q=record 17")
            Oracle(up).check({line["lsn"] for line in dumped if "record 17" in line["record"].get("message", "")})

    def test_the_dry_run_counts_what_would_be_sent_and_changes_nothing(self):
        with Upstream() as up, Server() as server:
            send(server, 120)
            send(server, 30, path="/v1/metrics", make=metric)
            send(server, 80, service="other", timestamp="2025-08-26T10:00:00Z")
            options = ["--to", up.url(), "--from-lsn", "11", "--filter", "service=e2e"]
            counted = replay(server, "--dry-run", *options)
            self.assertFalse(os.path.exists(os.path.join(server.data_dir, "replay")))
            self.assertEqual(up.requests, [])
            summary = replay(server, *KEYS, *options)
            sent = [entry for request in up.stored for entry in request.records()]
            lengths = {json.loads(line)["lsn"]: len(line[line.index(b'"record":') + 9:-1]) for line in server.dump_lines()}
            self.assertEqual(counted["records"], summary["delivered"])
            self.assertEqual(counted["records"], len(sent))
            self.assertEqual(counted["payload_bytes"], sum(lengths[entry["lsn"]] for entry in sent))
            self.assertEqual(counted["kinds"], {**counted["kinds"], "log": 110, "metric": 30})
            self.assertEqual((counted["oldest"], counted["newest"]), ("2025-08-25T10:00:00.000Z", "2025-08-25T10:00:00.123Z"))

    def test_a_dry_run_warns_of_an_upstream_that_refuses_what_is_old(self):
        with Server() as server:
            send(server, 10, path="/v1/metrics", make=metric)
            result = run(server, "--dry-run", "--to", "http://127.0.0.1:1/", "--type", "timestream", "--set", "sink.database=abc", "--set",
                         "sink.table=abc", "--set", "sink.aws_region=eu-central-1")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(b"older than the memory", result.stderr)

    def test_an_empty_range_is_done_at_once(self):
        with Upstream() as up, Server() as server:
            send(server, 10)
            self.assertEqual(replay(server, "--to", up.url(), *KEYS, "--from-lsn", "500")["delivered"], 0)
            self.assertEqual(replay(server, "--to", up.url(), *KEYS, "--filter", "service=nobody")["filtered"], 10)
            self.assertEqual(up.requests, [])

    # where and beside whom

    def test_without_a_server_also_after_a_crash(self):
        with Upstream() as up, Server() as server:
            lsns = send(server, 200)
            server.stop_clean()
            replay(server, "--to", up.url(), *KEYS)
            Oracle(up).check(lsns)
            server.start()
            more = send(server, 50)
            server.kill9()
            replay(server, "--to", up.url(), *KEYS, "--from-lsn", "201")
            Oracle(up).check(lsns + more)

    def test_a_configured_sink_keeps_its_place_while_a_replay_uses_its_address(self):
        with Upstream() as up, Upstream() as again, Upstream() as third, Watched(*sink("up", up.url())) as server:
            stop = threading.Event()
            sent = []

            def load():
                while not stop.is_set():
                    sent.extend(server.send(50))
                    time.sleep(0.01)
            thread = threading.Thread(target=load)
            thread.start()
            try:
                wait_until(lambda: len(sent) >= 1000, PATIENCE)
                with open(os.path.join(server.base, "sluice.conf"), "w") as config:
                    config.write("[sink.up]\n" + "".join(f"{key} = {value}\n" for key, value in {**QUICK, "url": again.url()}.items()))
                before = {name: os.stat(os.path.join(server.data_dir, name)).st_ino for name in ("lock", "forward.sqlite")}
                summary = replay(server, "--config", config.name, "--sink", "up", "--to-lsn", "800")
                known = len(sent)
                whole = replay(server, "--to", third.url(), *KEYS)  # its end is while records come in
            finally:
                stop.set()
                thread.join()
            self.assertEqual(summary["delivered"], 800)
            Oracle(again).check(range(1, 801))
            self.assertGreaterEqual(whole["last_lsn"], known)
            Oracle(third).check(range(1, whole["last_lsn"] + 1))
            server.drained(sent)
            Oracle(up).check(sent)
            self.assertEqual(before, {name: os.stat(os.path.join(server.data_dir, name)).st_ino for name in before})
            server.stop_clean()

    def test_beside_a_server_that_seals_and_compacts_under_it(self):
        with Upstream(slow(0.02)) as up, Server("--set", "store.segment_bytes=2M", "--set", "server.max_body=256K", "--set", "store.batch_bytes=256K") as server:
            lsns = []
            for i in range(20):
                lsns += send(server, 200, first=i * 200, text="x" * 200)
            job = subprocess.Popen(command(server, "--to", up.url(), *KEYS, "--set", "sink.connections=1"), stdout=subprocess.PIPE)
            wait_until(lambda: up.stored, PATIENCE)
            for i in range(20):
                send(server, 200, first=i * 200, text="y" * 200)
            self.assertEqual(job.wait(PATIENCE * 2), 0)
            job.stdout.close()
            Oracle(up).check(lsns)

    def test_beside_a_server_that_is_killed_and_comes_back(self):
        with Upstream() as up, Server() as server:
            lsns = send(server, 2000)
            up.next(slow(0), slow(0))
            up.mode = status(503)
            job = subprocess.Popen(command(server, "--to", up.url(), *KEYS, "--set", "sink.batch_records=20"), stdout=subprocess.DEVNULL)
            wait_until(lambda: up.stored, PATIENCE)
            for _ in range(3):
                server.kill9()
                server.start()
                send(server, 100)
            up.mode = slow(0)
            self.assertEqual(job.wait(PATIENCE), 0)
            Oracle(up).check(lsns)
            server.stop_clean()

    def test_to_another_sluice_a_filtered_replay_speaks_for_what_it_carries_only(self):
        with Server() as other, Server() as server:
            for i in range(10):
                send(server, 10, first=i, service="a")
                send(server, 10, first=i, service="b")
            address = f"http://127.0.0.1:{other.port}"
            options = ["--to", address, "--type", "sluice", *KEYS]
            self.assertEqual(replay(server, *options, "--filter", "service=b")["delivered"], 100)
            self.assertEqual({line["record"]["service"] for line in other.dump()}, {"b"})
            self.assertEqual(replay(server, *options)["delivered"], 200)
            self.assertEqual(sorted(line["origin"]["lsn"] for line in other.dump()), list(range(1, 201)))

    def test_into_a_file(self):
        with Server() as server:
            send(server, 100)
            path = os.path.join(server.base, "out.ndjson")
            replay(server, "--to", path, "--type", "file", "--from-lsn", "51")
            with open(path, "rb") as lines:
                self.assertEqual([json.loads(line)["lsn"] for line in lines], list(range(51, 101)))
            server.stop_clean()

    def test_to_s3_whole_segments_that_will_not_change_any_more(self):
        with Upstream() as up, Server("--set", "store.segment_bytes=2M", "--set", "server.max_body=256K", "--set", "store.batch_bytes=256K") as server:
            for i in range(20):
                send(server, 300, first=i * 300, text="x" * 600)
            directory = os.path.join(server.data_dir, "log")
            wait_until(lambda: len([name for name in os.listdir(directory) if name.endswith(".slc")]) >= 2, PATIENCE)
            options = ["--to", up.url(""), "--type", "s3"]
            self.assertEqual(run(server, *options, "--filter", "service=e2e").returncode, 1)
            summary = replay(server, *options, "--from-lsn", "2")
            self.assertEqual((summary["first_lsn"], summary["pending"]), (1, 0))
            self.assertGreaterEqual(len(up.requests), 2)
            for request in up.requests:
                with open(os.path.join(directory, os.path.basename(request.path)), "rb") as segment:
                    self.assertEqual((request.method, request.wire), ("PUT", segment.read()))

    @unittest.skipUnless(shutil.which("nginx"), "nginx is not installed")
    def test_through_a_real_nginx_that_limits_requests(self):
        with Server() as server, Nginx(server.base) as nginx:
            lsns = send(server, 600)
            summary = replay(server, "--to", f"http://127.0.0.1:{nginx.port}/in", *KEYS, "--set", "sink.batch_records=20")
            self.assertEqual(summary["delivered"], 600)
            lines = nginx.lines()
            taken = [json.loads(line["body"])["lsn"] for line in nginx.split(lines, 204)]
            self.assertEqual(sorted(taken), lsns)
            self.assertGreater(len(nginx.split(lines, 429)), 0, "nginx never limited anything")
            keys = [line["key"] for line in lines if line["status"] == 204]
            self.assertEqual(len(keys), len(set(keys)), "taken twice")

    def test_a_file_that_a_server_writes_is_refused(self):
        with Server() as server:
            send(server, 10)
            options = ["--set", "sink.out.type=file", "--set", f"sink.out.path={server.base}/out"]
            result = run(server, *options, "--sink", "out")
            self.assertEqual(result.returncode, 1)
            self.assertIn(b"only its server may write", result.stderr)
            result = run(server, *options, "--to", f"{server.base}/out", "--type", "file")
            self.assertEqual(result.returncode, 1)

    # interruptions

    def test_killed_at_any_moment_it_goes_on_and_retries_the_same_bytes(self):
        with Upstream() as up, Server() as server:
            lsns = send(server, 3000)
            options = ["--to", up.url(), *KEYS, "--set", "sink.batch_records=20", "--rate", "200K"]
            seed = random.randrange(1 << 32)
            chance = random.Random(seed)
            kills = 0
            for _ in range(KILLS):
                up.next(*chance.sample([lost(), reset(), status(503), slow(0.05), lost()], 2))
                job = subprocess.Popen(command(server, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(chance.uniform(0.05, 0.8))
                kills += job.poll() is None
                job.kill()
                job.wait(PATIENCE)
            summary = replay(server, *options[:-2])
            with self.subTest(seed=seed):
                Oracle(up).check(lsns).bytes_are_those_of(server.dump_lines())
                self.assertEqual((summary["pending"], summary["delivered"]), (0, 3000))
                self.assertGreater(kills, 0)

    def test_a_signal_pauses_it_and_the_same_command_goes_on(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), Upstream(slow(0.05)) as up, Server() as server:
                lsns = send(server, 1000)
                options = ["--json", "--to", up.url(), *KEYS, "--set", "sink.batch_records=10"]
                job = subprocess.Popen(command(server, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                wait_until(lambda: len(up.stored) > 3, PATIENCE)
                job.send_signal(number)
                out, said = job.communicate(timeout=PATIENCE)
                self.assertEqual(job.returncode, 1, said)
                self.assertEqual(json.loads(out)["state"], "paused")
                self.assertIn(b"goes on", said)
                part = len(up.stored)
                self.assertLess(part, 100)
                up.mode = lambda exchange: slow(0)(exchange)
                self.assertEqual(replay(server, *options[1:])["delivered"], 1000)
                Oracle(up).check(lsns)
                self.assertEqual(len(up.stored), 100, "an orderly pause sends nothing twice")

    def test_relative_times_and_open_ends_stay_what_they_were_when_the_job_was_made(self):
        with Upstream(slow(0.05)) as up, Server() as server:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 6))
            lsns = send(server, 400, timestamp=stamp)
            options = ["--to", up.url(), *KEYS, "--set", "sink.batch_records=10", "--from", "now-12s"]
            job = subprocess.Popen(command(server, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda: len(up.stored) > 3, PATIENCE)
            job.kill()
            job.wait(PATIENCE)
            time.sleep(7)
            send(server, 100, timestamp=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            replay(server, *options)
            Oracle(up).check(lsns)

    # jobs

    def test_a_job_that_is_done_is_not_done_again_unless_asked_to(self):
        with Upstream() as up, Server() as server:
            send(server, 100)
            options = ["--to", up.url(), *KEYS]
            replay(server, *options)
            count = len(up.requests)
            self.assertEqual(replay(server, *options)["state"], "was finished before")
            self.assertEqual(len(up.requests), count)
            replay(server, *options, "--again")
            self.assertEqual(len(up.requests), 2 * count)
            # Other batches, so other keys; the same records with the same ids.
            self.assertEqual(len({request.key for request in up.requests}), 2 * count)
            entries = [json.dumps(entry) for request in up.stored for entry in request.records()]
            self.assertEqual((len(entries), len(set(entries))), (200, 100))

    def test_a_name_stands_for_one_job(self):
        with Upstream() as up, Server() as server:
            send(server, 100)
            replay(server, "--to", up.url(), *KEYS, "--job", "mine", "--to-lsn", "50")
            result = run(server, "--to", up.url(), *KEYS, "--job", "mine", "--to-lsn", "60")
            self.assertEqual(result.returncode, 1)
            self.assertIn(b"job mine is there and is something else", result.stderr)
            self.assertIn(b"to-lsn=50", result.stderr)
            result = run(server, "--list", "--json")
            self.assertEqual([(job["job"], job["state"], job["delivered"]) for job in map(json.loads, result.stdout.splitlines())],
                             [("mine", "finished", 50)])
            self.assertEqual(run(server, "--cancel", "--job", "mine").returncode, 0)
            self.assertEqual(run(server, "--list").stdout, b"")
            self.assertEqual(run(server, "--cancel", "--job", "mine").returncode, 1)
            self.assertEqual(os.listdir(os.path.join(server.data_dir, "replay")), [])

    def test_one_process_at_a_time_works_at_a_job(self):
        with Upstream(slow(0.2)) as up, Server() as server:
            send(server, 200)
            options = ["--to", up.url(), *KEYS, "--set", "sink.batch_records=10"]
            job = subprocess.Popen(command(server, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda: up.stored, PATIENCE)
            result = run(server, *options)
            self.assertEqual(result.returncode, 1)
            self.assertIn(b"another process works at", result.stderr)
            self.assertIn(b"running", run(server, "--list").stdout)
            name = run(server, "--list").stdout.split()[0].decode()
            self.assertEqual(run(server, "--cancel", "--job", name).returncode, 1)
            job.terminate()
            job.wait(PATIENCE)

    # refused records

    def test_what_the_upstream_refuses_waits_in_the_jobs_quarantine_and_can_be_delivered_later(self):
        with Upstream(poison()) as up, Server() as server:
            lsns = send(server, 100)
            bad = send(server, 3, text="poison-marker") + send(server, 1, text="poison-marker")
            lsns += send(server, 50)
            options = ["--to", up.url(), *KEYS, "--job", "mine"]
            summary = replay(server, *options, code=1)
            self.assertEqual((summary["delivered"], summary["quarantined"]), (150, 4))
            Oracle(up).check(lsns)

            def quarantine(*words):
                result = subprocess.run([BINARY, "quarantine", *words, "--data-dir", server.data_dir, "--job", "mine", "--json"],
                                        capture_output=True, timeout=60, env=server.environment)
                self.assertEqual(result.returncode, 0, result.stderr)
                return [json.loads(line) for line in result.stdout.splitlines()]
            held = quarantine("list")
            self.assertEqual(sorted(item["lsn"] for item in held), bad)
            self.assertEqual(quarantine("drop", str(held[0]["id"])), [{"status": "dropped", "records": 1}])
            self.assertEqual(quarantine("requeue", "--sink", "replay"), [{"status": "requeued", "records": 3}])
            up.mode = poison(b"nothing has this")
            summary = replay(server, *options)
            self.assertEqual((summary["delivered"], summary["quarantined"], summary["dropped"]), (153, 0, 1))
            Oracle(up).check(set(lsns + bad) - {held[0]["lsn"]})

    # the command line

    def test_wrong_usage_is_told_with_exit_code_2(self):
        with Server() as server:
            for words in ([], ["--sink", "a", "--to", "http://x/"], ["--to", "http://x/", "--from", "yesterday"], ["--to", "http://x/", "--from-lsn", "x"],
                          ["--to", "http://x/", "--filter", "colour=red"], ["--to", "http://x/", "--filter", "level=loud"],
                          ["--to", "http://x/", "--kind", "letter"], ["--to", "http://x/", "--rate", "fast"], ["--to", "http://x/", "--job", "../x"],
                          ["--to", "http://x/", "--from-lsn", "9", "--to-lsn", "8"], ["--to", "http://x/", "more"], ["--sink", "a", "--type", "http"]):
                with self.subTest(words):
                    result = run(server, *words)
                    self.assertEqual(result.returncode, 2, result.stderr)
                    self.assertIn(b"sluice help replay", result.stderr)
            result = run(server, "--sink", "nobody")
            self.assertEqual(result.returncode, 1)
            self.assertIn(b"no sink nobody", result.stderr)

    def test_a_directory_without_a_log_is_told(self):
        result = subprocess.run([BINARY, "replay", "--data-dir", "/nonexistent", "--to", "http://127.0.0.1:1/"], capture_output=True, timeout=30)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"/nonexistent", result.stderr)


if __name__ == "__main__":
    unittest.main()
