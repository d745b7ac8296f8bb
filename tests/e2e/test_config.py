"""Configuration, start, reload, stop and the small commands: what people and scripts meet before and after the first request."""
import configparser
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BINARY, SMALL, Server, encode, record, request_bytes, wait_until

INHERITED = {name: value for name, value in os.environ.items() if name != "SLUICE_BINARY"}

# Design §10 (and §0 of the wire contract for max_head): the defaults that scripts may rely on.
DEFAULTS = {
    "server.listen": "127.0.0.1:8080", "server.shards": "auto", "server.io": "auto", "server.max_body": "16M", "server.max_head": "16K",
    "server.max_connections": "10000",
    "store.data_dir": "./data", "store.segment_bytes": "64M", "store.ack": "durable", "store.retention_age": "30d", "store.retention_bytes": "100G",
    "store.reserve_bytes": "64M", "store.on_corruption": "quarantine", "auth.enabled": "false", "rate_limit.enabled": "false",
    "rate_limit.rpm": "60", "cors.origins": "*", "dedup.ttl": "24h", "log.level": "info", "log.format": "auto",
}


def number(text):
    """16M and 16777216, 24h and 1d are the same value."""
    match = re.fullmatch(r"(\d+)(ms|[smhdKMG])?", text)
    if not match:
        return text
    scale = {None: 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "K": 1024, "M": 1024 ** 2, "G": 1024 ** 3}[match.group(2)]
    return int(match.group(1)) * scale


def tool(*arguments, environment=None, timeout=30, cwd=None):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=timeout, cwd=cwd, env={**INHERITED, **(environment or {})})


class Directory(unittest.TestCase):
    def setUp(self):
        self.base = tempfile.mkdtemp(prefix="sluice-e2e-")
        self.data = os.path.join(self.base, "data")

    def tearDown(self):
        shutil.rmtree(self.base, ignore_errors=True)

    def write(self, text, name="sluice.conf"):
        path = os.path.join(self.base, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path

    def config(self, *arguments, environment=None):
        result = tool("config", "--json", *arguments, environment=environment)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def fails_to_serve(self, *arguments, code=1):
        result = tool("serve", "--data-dir", self.data, "--listen", "127.0.0.1:0", *SMALL, *arguments)
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertTrue(result.stderr.strip(), "a failure without a word")
        return result.stderr


class Config(Directory):
    def test_defaults_are_those_of_the_design(self):
        effective = self.config()
        for key, value in DEFAULTS.items():
            with self.subTest(key):
                self.assertEqual(number(effective[key]["value"]), number(value))
                self.assertEqual(effective[key]["origin"], "default")
        self.assertIn("auth.tokens", effective)
        self.assertIn("runs.db", effective)

    def test_file_below_environment_below_flags(self):
        path = self.write("[server]\nmax_body = 1M\nmax_connections = 11\n\n[log]\nlevel = debug\n\n[rate_limit]\nrpm = 7\n")
        environment = {"SLUICE_SERVER_MAX_BODY": "2M", "SLUICE_SERVER_MAX_CONNECTIONS": "22"}
        effective = self.config("--config", path, "--set", "server.max_body=3M", environment=environment)
        self.assertEqual(number(effective["server.max_body"]["value"]), 3 * 1024 ** 2)
        self.assertEqual(effective["server.max_connections"]["value"], "22")
        self.assertEqual((effective["log.level"]["value"], effective["rate_limit.rpm"]["value"]), ("debug", "7"))
        self.assertEqual(effective["store.ack"]["value"], "durable")
        origins = {key: effective[key]["origin"] for key in ("server.max_body", "server.max_connections", "log.level", "store.ack")}
        self.assertEqual(len(set(origins.values())), 4, origins)
        self.assertIn("sluice.conf", origins["log.level"])
        self.assertIn("SLUICE_SERVER_MAX_CONNECTIONS", origins["server.max_connections"])

    def test_the_order_of_flags_and_the_flags_with_names_of_their_own(self):
        effective = self.config("--set", "log.level=debug", "--set", "log.level=error", "--data-dir", "/d", "--listen", "127.0.0.1:1",
                                environment={"SLUICE_STORE_DATA_DIR": "/e", "SLUICE_SERVER_LISTEN": "127.0.0.1:2"})
        self.assertEqual((effective["log.level"]["value"], effective["store.data_dir"]["value"]), ("error", "/d"))
        self.assertEqual(effective["server.listen"]["value"], "127.0.0.1:1")

    def test_the_listing_is_a_configuration_file(self):
        result = tool("config", "--set", "server.max_body=3M", "--set", "log.level=warning")
        self.assertEqual(result.returncode, 0)
        parser = configparser.ConfigParser(inline_comment_prefixes=(";", "#"))
        parser.read_string(result.stdout)
        self.assertEqual(parser["log"]["level"], "warning")
        again = self.config("--config", self.write(result.stdout))
        self.assertEqual(number(again["server.max_body"]["value"]), 3 * 1024 ** 2)
        first = self.config("--set", "server.max_body=3M", "--set", "log.level=warning")
        self.assertEqual({key: entry["value"] for key, entry in again.items()}, {key: entry["value"] for key, entry in first.items()})

    def test_all_problems_are_listed_at_once_with_file_and_line(self):
        path = self.write("# a comment\n[server]\nmax_bodyy = 1M\nmax_connections = many\n\n[log]\nlevel = loud\n[stor]\nack = durable\n[store]\nack = maybe\n")
        for result in (tool("config", "--config", path), tool("serve", "--config", path, "--data-dir", self.data)):
            self.assertEqual(result.returncode, 1, result.stderr)
            for line in (3, 4, 7, 9, 11):
                self.assertRegex(result.stderr, rf"sluice\.conf:{line}\b")
            self.assertRegex(result.stderr, r"max_bodyy.*server\.max_body\b", "the key that was meant is suggested")
            self.assertIn("loud", result.stderr)
        self.assertFalse(os.path.exists(self.data), "the data directory was touched")

    def test_problems_of_every_source_are_listed_together(self):
        path = self.write("[log]\nlevel = loud\n")
        result = tool("serve", "--config", path, "--data-dir", self.data, "--set", "store.ack=maybe", "--set", "nothing.here=1",
                      environment={"SLUICE_SERVER_MAX_BODY": "-5", "SLUICE_SERVER_MAX_CONNECTION": "5"})
        self.assertEqual(result.returncode, 1)
        for text in ("sluice.conf:2", "store.ack", "nothing.here", "SLUICE_SERVER_MAX_BODY", "SLUICE_SERVER_MAX_CONNECTIONS"):
            self.assertIn(text, result.stderr)

    def test_bad_values(self):
        for setting in ("server.max_body=", "server.max_body=1X", "server.max_body=-1", "server.max_body=1.5M", "server.max_body=99999999999G", "server.max_body=16 MB",
                        "server.max_body=0", "store.retention_age=5", "store.retention_age=5y", "server.max_connections=0", "server.max_connections=1e3",
                        "store.ack=DURABLE ", "auth.enabled=perhaps", "server.listen=nohost", "server.listen=127.0.0.1:99999", "server.listen=",
                        "log.level=", "throttle.rate=2", "throttle.rate=-1", "server.shards=1000000", "store.segment_bytes=1"):
            with self.subTest(setting):
                result = tool("config", "--set", setting)
                self.assertEqual(result.returncode, 1, result.stdout[:300])
                self.assertIn(setting.split("=")[0], result.stderr)

    def test_relations_between_keys_are_checked(self):
        result = tool("config", "--set", "store.segment_bytes=8M", "--set", "server.max_body=16M")
        self.assertEqual(result.returncode, 1)
        self.assertIn("store.segment_bytes", result.stderr)

    def test_a_missing_or_broken_file_is_named(self):
        result = tool("config", "--config", os.path.join(self.base, "none.conf"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("none.conf", result.stderr)
        result = tool("config", "--config", self.write("[server\nmax_body = 1M\n"))
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"sluice\.conf:1\b")
        result = tool("config", "--config", self.write("[server]\nnonsense\n"))
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"sluice\.conf:2\b")

    def test_a_key_twice_in_a_file_is_a_problem_or_the_last_one_wins(self):
        result = tool("config", "--json", "--config", self.write("[server]\nmax_connections = 5\nmax_connections = 6\n"))
        if result.returncode == 0:
            self.assertEqual(json.loads(result.stdout)["server.max_connections"]["value"], "6")
        else:
            self.assertRegex(result.stderr, r"sluice\.conf:3\b")

    def test_names_of_other_systems_and_their_conflicts(self):
        self.assertTrue(self.config(environment={"TELEMETRY_API_PORT": "8765"})["server.listen"]["value"].endswith(":8765"))
        self.assertEqual(self.config(environment={"LOG_LEVEL": "debug"})["log.level"]["value"], "debug")
        result = tool("config", environment={"LOG_LEVEL": "debug", "SLUICE_LOG_LEVEL": "error"})
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"(?<!_)LOG_LEVEL")
        self.assertIn("SLUICE_LOG_LEVEL", result.stderr)

    def test_variables_of_an_orchestrator_do_no_harm(self):
        """A Kubernetes service named `sluice` puts these into every container of the name space."""
        environment = {"SLUICE_SERVICE_HOST": "10.0.0.1", "SLUICE_SERVICE_PORT": "8080", "SLUICE_SERVICE_PORT_HTTP": "8080", "SLUICE_PORT": "tcp://10.0.0.1:8080",
                       "SLUICE_PORT_8080_TCP": "tcp://10.0.0.1:8080", "SLUICE_PORT_8080_TCP_PROTO": "tcp", "SLUICE_PORT_8080_TCP_PORT": "8080",
                       "SLUICE_PORT_8080_TCP_ADDR": "10.0.0.1"}
        result = tool("config", environment=environment)
        self.assertEqual(result.returncode, 0, result.stderr)


class Commands(Directory):
    def test_version_and_help(self):
        result = tool("version")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^sluice \d+\.\d+\.\d+")
        self.assertEqual(result.stdout.count("\n"), 1)
        result = tool("help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for command in ("serve", "doctor", "config", "dump", "verify", "version"):
            self.assertRegex(result.stdout, rf"(?m)^\s+{command}\b")
            with self.subTest(command):
                self.assertEqual(tool("help", command).returncode, 0)
                self.assertIn(command, tool("help", command).stdout)
                asked = tool(command, "--help")
                self.assertEqual((asked.returncode, asked.stdout), (0, tool("help", command).stdout))

    def test_wrong_usage_is_2(self):
        for arguments in (["nonsense"], ["serve", "--nonsense"], ["dump", "--nonsense"], ["verify", "--nonsense"], ["config", "--nonsense"],
                          ["doctor", "--nonsense"], ["help", "nonsense"], ["serve", "--set"], ["serve", "--set", "nonsense"], ["serve", "stray"],
                          ["dump", "--data-dir", self.base, "--from-lsn", "x"], ["version", "stray"], ["config", "--config"], ["--nonsense"]):
            with self.subTest(arguments):
                result = tool(*arguments)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertTrue(result.stderr.strip())
                self.assertEqual(result.stdout, "")

    def test_doctor(self):
        result = tool("doctor", "--data-dir", self.data)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        for word in ("io_uring", "kernel", "O_DIRECT|direct", "memlock|locked", "clock", "cores|CPU", "space"):
            self.assertRegex(result.stdout, f"(?i){word}")
        result = tool("doctor", "--data-dir", self.data, "--json")
        self.assertEqual(result.returncode, 0)
        for line in result.stdout.splitlines():
            json.loads(line)
        self.assertFalse(os.path.exists(self.data), "doctor leaves nothing behind")

    def test_dump_and_verify_of_nothing_fail(self):
        for command in ("dump", "verify"):
            result = tool(command, "--data-dir", self.data)
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertIn(self.data, result.stderr)
        self.assertFalse(os.path.exists(self.data))

    def test_dump_and_verify_with_and_without_a_server(self):
        with Server() as server:
            server.post("/v1/logs", [record(i) for i in range(100)])
            live = server.dump_lines()
            self.assertEqual(len(live), 100)
            self.assertEqual(tool("dump", "--data-dir", server.data_dir, "--kind", "nonsense").returncode, 2)
            self.assertEqual(tool("dump", "--data-dir", server.data_dir, "--from-lsn", "1x").returncode, 2)
            self.assertEqual(server.verify().returncode, 0, server.verify())
            self.assertEqual(server.stop(), 0)
            self.assertEqual(server.dump_lines(), live)
            result = server.verify()
            self.assertEqual(result.returncode, 0)
            self.assertIn(b"100", result.stdout)

    def test_verify_names_the_fault(self):
        with Server() as server:
            server.post("/v1/logs", record(1, message="find me here"))
            server.post("/v1/logs", record(2))
            self.assertEqual(server.stop(), 0)
            for folder, _, names in os.walk(server.data_dir):
                for name in names:
                    path = os.path.join(folder, name)
                    with open(path, "r+b") as file:
                        data = file.read()
                        at = data.find(b"find me here")
                        if at >= 0:
                            file.seek(at)
                            file.write(b"F")
                            broken = name
            result = server.verify()
            self.assertEqual(result.returncode, 1)
            text = (result.stdout + result.stderr).decode()
            self.assertIn(broken, text)
            self.assertRegex(text, r"(?i)(offset|at) \d+")
            self.assertRegex(text, r"(?i)lsn")

    def test_a_closed_pipe_ends_dump_quietly(self):
        with Server() as server:
            server.post("/v1/logs", [record(i, padding="x" * 500) for i in range(1000)])
            result = subprocess.run(f"'{BINARY}' dump --data-dir '{server.data_dir}' | head -n 1", shell=True, capture_output=True, text=True, timeout=20)
            self.assertEqual((result.stdout.count("\n"), result.stderr), (1, ""))


class Start(Directory):
    def test_a_second_server_on_the_same_directory_names_the_holder(self):
        with Server(data_dir=self.data) as server:
            text = self.fails_to_serve()
            self.assertRegex(text, rf"\b{server.process.pid}\b")
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202, "the first one goes on")
            server.kill9()
            server.start()
            self.assertEqual(len(server.dump()), 1, "the lock of a dead process is taken over")

    def test_a_port_in_use_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            result = tool("serve", "--data-dir", self.data, "--listen", address, *SMALL)
            self.assertEqual(result.returncode, 1)
            self.assertIn(address, result.stderr)
            self.assertRegex(result.stderr, r"(?i)in use|EADDRINUSE")

    def test_an_address_of_somebody_else_is_named(self):
        result = tool("serve", "--data-dir", self.data, "--listen", "192.0.2.1:0", *SMALL)
        self.assertEqual(result.returncode, 1)
        self.assertIn("192.0.2.1", result.stderr)

    def test_an_unusable_data_directory_is_named(self):
        blocked = self.write("a file", "file")
        self.data = os.path.join(blocked, "data")
        self.assertIn(blocked, self.fails_to_serve())
        self.data = blocked
        self.assertIn(blocked, self.fails_to_serve())
        if os.geteuid() != 0:
            self.data = os.path.join(self.base, "closed")
            os.mkdir(self.data, 0o500)
            self.assertIn(self.data, self.fails_to_serve())

    def test_a_missing_data_directory_is_made(self):
        with Server(data_dir=os.path.join(self.base, "a")) as server:
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)

    def test_several_addresses(self):
        with Server("--listen", "127.0.0.1:0") as server:
            line = next(text for text in server.log if "ready" in text)
            ports = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", line)}
            self.assertEqual(len(ports), 2, line)
            for port in ports:
                server.port = port
                self.assertEqual(server.post("/v1/logs", record(1)).status, 202)

    def test_log_lines_are_json_when_stderr_is_no_terminal(self):
        with Server() as server:
            server.post("/v1/logs", record(1))
            self.assertEqual(server.stop(), 0)
            wait_until(lambda: server.process.stderr.closed)
            self.assertGreaterEqual(len(server.log), 2)
            for line in server.log:
                entry = json.loads(line)
                self.assertIn("level", entry)
                self.assertIn("message", entry)
            self.assertEqual(sum("ready" in line for line in server.log), 1)

    def test_log_format_text_and_json_are_obeyed(self):
        with Server("--set", "log.format=text") as server:
            self.assertTrue(server.log)
            self.assertFalse([line for line in server.log if line.startswith("{")])

    def test_log_lines_are_text_on_a_terminal(self):
        for arguments, is_json in (([], False), (["--set", "log.format=json"], True)):
            try:
                master, slave = pty.openpty()
            except OSError as problem:
                self.skipTest(f"no pseudo-terminals on this machine (/dev/pts is not mounted?): {problem}")
            process = subprocess.Popen([BINARY, "serve", "--data-dir", self.data, "--listen", "127.0.0.1:0", *SMALL, *arguments],
                                       stderr=slave, stdout=subprocess.DEVNULL, env=INHERITED)
            os.close(slave)
            text = b""
            try:
                end = time.monotonic() + 15
                while b"ready" not in text and time.monotonic() < end:
                    if select.select([master], [], [], 0.2)[0]:
                        text += os.read(master, 4096)
            finally:
                process.kill()
                process.wait(10)
                os.close(master)
            self.assertIn(b"ready", text)
            self.assertEqual(text.startswith(b"{"), is_json, text)


class Reload(Directory):
    def hup(self, server, text=None):
        """Sends SIGHUP and returns what is logged because of it."""
        if text is not None:
            self.write(text)
        seen = len(server.log)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(server.log) > seen, 5)
        time.sleep(0.2)
        return "".join(server.log[seen:])

    def test_what_can_change_changes(self):
        path = self.write("[log]\nlevel = info\n[store]\nack = durable\n")
        with Server("--config", path) as server:
            self.assertEqual(server.post("/v1/logs", record(1)).headers["x-sluice-ack"], "durable")
            text = self.hup(server, "[log]\nlevel = debug\n[store]\nack = memory\n")
            self.assertRegex(text, r"(?i)reload|generation|configuration")
            self.assertEqual(server.post("/v1/logs", record(2)).headers["x-sluice-ack"], "memory")
            self.hup(server, "[log]\nlevel = info\n[store]\nack = durable\n")
            self.assertEqual(server.post("/v1/logs", record(3)).headers["x-sluice-ack"], "durable")

    def test_log_level_takes_effect(self):
        path = self.write("[log]\nlevel = info\n")
        with Server("--config", path) as server:
            self.write("[log]\nlevel = error\n")
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            seen = len(server.log)
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            self.assertEqual([line for line in server.log[seen:] if '"level":"info"' in line], [], "info lines at level error")
            self.assertEqual(server.get("/healthcheck").status, 200)

    def test_what_cannot_change_is_named(self):
        path = self.write("[server]\nmax_connections = 100\n")
        with Server("--config", path) as server:
            self.assertIn("server.max_connections", self.hup(server, "[server]\nmax_connections = 200\n"))
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)

    def test_a_broken_file_is_refused_as_a_whole_and_the_server_goes_on(self):
        path = self.write("[store]\nack = durable\n")
        with Server("--config", path) as server:
            text = self.hup(server, "[store]\nack = memory\n[log]\nlevel = loud\nlevell = info\n")
            self.assertIn("loud", text)
            self.assertIn("levell", text)
            self.assertEqual(server.post("/v1/logs", record(1)).headers["x-sluice-ack"], "durable", "half of a broken file was taken")
            os.unlink(path)
            self.hup(server)
            self.assertEqual(server.post("/v1/logs", record(2)).status, 202)

    def test_flags_still_win_after_a_reload(self):
        path = self.write("[store]\nack = durable\n")
        with Server("--config", path, "--set", "store.ack=durable") as server:
            self.hup(server, "[store]\nack = memory\n")
            self.assertEqual(server.post("/v1/logs", record(1)).headers["x-sluice-ack"], "durable")

    def test_without_a_file_nothing_happens(self):
        with Server() as server:
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)


class Stop(Directory):
    def posting(self, server, acked, problems, done):
        number = 0
        try:
            with server.connect() as connection:
                while not done.is_set():
                    body = encode(record(f"{threading.get_ident()}-{number}"))
                    connection.send(request_bytes("POST", "/v1/logs", body))
                    answer = connection.response()
                    if answer is None:
                        return
                    if answer.status == 202:
                        acked.append((answer.json()["lsn"], body))
                    elif answer.status != 503 or "retry-after" not in answer.headers:
                        problems.append(answer)
                    number += 1
        except (ConnectionError, TimeoutError, OSError):
            pass
        except AssertionError as problem:
            problems.append(str(problem))

    def stop_while_posting(self, signal_number):
        acked, problems, done = [], [], threading.Event()
        with Server() as server:
            threads = [threading.Thread(target=self.posting, args=(server, acked, problems, done), daemon=True) for _ in range(8)]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(acked) > 500, 20)
            start = time.monotonic()
            server.process.send_signal(signal_number)
            self.assertEqual(server.process.wait(20), 0)
            took = time.monotonic() - start
            done.set()
            for thread in threads:
                thread.join(10)
            self.assertLess(took, 8)
            self.assertEqual(problems, [])
            stored = {}
            for line in server.dump_lines():
                stored[json.loads(line)["lsn"]] = line[line.index(b'"record":') + 9:-1]
            self.assertEqual([lsn for lsn, body in acked if stored.get(lsn) != body], [])
            self.assertEqual(server.verify().returncode, 0)
            server.start()
            self.assertIn("0 torn", server.log_text().replace("no torn", "0 torn"))
            self.assertEqual(server.get("/v1/durable?lsn=0").json()["durable_lsn"], len(stored))

    def test_sigterm_while_clients_post(self):
        self.stop_while_posting(signal.SIGTERM)

    def test_sigint_while_clients_post(self):
        self.stop_while_posting(signal.SIGINT)

    def test_an_idle_server_stops_at_once(self):
        with Server() as server, server.connect() as idle:
            idle.send(request_bytes("GET", "/healthcheck"))
            idle.response()
            start = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - start, 3, "an idle connection held the stop")
            self.assertTrue(idle.is_closed())

    def test_a_request_under_way_is_answered_before_the_end(self):
        with Server() as server, server.connect() as connection:
            wire = request_bytes("POST", "/v1/logs", encode(record(1)))
            connection.send(wire[:-20])
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            try:
                connection.send(wire[-20:])
                answer = connection.response()
            except (BrokenPipeError, ConnectionResetError):
                answer = None
            self.assertEqual(server.process.wait(40), 0)
            self.assertIsNotNone(answer, "cut off without an answer")
            self.assertIn(answer.status, (202, 503))
            self.assertEqual(len(server.dump()), 1 if answer.status == 202 else 0)

    def test_a_client_that_never_finishes_does_not_hold_the_stop_beyond_its_time(self):
        with Server("--set", "server.stop_timeout=2s") as server, server.connect() as connection:
            connection.send(request_bytes("POST", "/v1/logs", encode(record(1)))[:-20])
            time.sleep(0.1)
            start = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - start, 4)

    def test_a_second_signal_ends_it_at_once(self):
        with Server() as server, server.connect() as connection:
            self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
            connection.send(request_bytes("POST", "/v1/logs", encode(record(1)))[:-20])
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(5)
            self.assertLess(time.monotonic() - start, 2)
            server.start()
            self.assertEqual(len(server.dump()), 1, "what was acknowledged before is there")


if __name__ == "__main__":
    unittest.main()
