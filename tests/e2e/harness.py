"""Fixture verbs for end-to-end tests: a real server process, real sockets, the real tools. Standard library only.

    with Server() as server:                 # a fresh data directory, port chosen by the kernel
        status, headers, body = server.post("/v1/logs", [record(1), record(2)])
        server.kill9(); server.start()       # same data directory
        lines = server.dump()

SLUICE_BINARY names the binary (default build/release/sluice). Every wait is bounded.
"""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Taken out of the environment: the server would refuse a variable that it does not know.
BINARY = os.environ.pop("SLUICE_BINARY", os.path.join(ROOT, "build", "release", "sluice"))
TEST_DATA = os.environ.get("SLUICE_TEST_DATA", os.path.join(os.path.dirname(ROOT), "shared", "data"))

# Small files keep the tests quick; nothing else differs from the defaults.
SMALL = ["--set", "store.segment_bytes=8M", "--set", "server.max_body=2M", "--set", "store.reserve_bytes=1M"]


def record(number, **more):
    """A valid log record that carries its number."""
    fields = {
        "timestamp": "2025-08-25T10:00:00.123456Z",
        "service": "e2e",
        "level": "INFO",
        "message": f"record {number}",
        "correlation_id": f"n-{number}",
    }
    fields.update(more)
    return fields


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __iter__(self):
        return iter((self.status, self.headers, self.body))

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:200]!r}>"


class Connection:
    """One raw TCP connection: send bytes, read responses one by one."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def fill(self):
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def response(self, head_request=False):
        """The next response, or None when the peer closed without one."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                if self.buffer:
                    raise AssertionError(f"closed inside a response: {self.buffer[:200]!r}")
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3})( .*)?", lines[0])
        assert match, f"status line {lines[0]!r}"
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        status = int(match.group(1))
        length = int(headers.get("content-length", 0))
        if head_request or status in (100, 204, 304):
            length = 0
        while len(self.buffer) < length:
            assert self.fill(), "closed inside a body"
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Response(status, headers, body)

    def is_closed(self, timeout=5):
        """True when the peer closes (after sending nothing more) within timeout."""
        self.socket.settimeout(timeout)
        try:
            return not self.buffer and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except (TimeoutError, socket.timeout):
            return False

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def request_bytes(method, path, body=b"", headers=None, length=True):
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    for name, value in (headers or {}).items():
        lines.append(f"{name}: {value}")
    if length and (body or method in ("POST", "PUT", "PATCH")):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def encode(body):
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    return json.dumps(body, separators=(",", ":")).encode()


class Server:
    def __init__(self, *arguments, data_dir=None, small=True, environment=None, wrapper=None):
        self.own_dir = data_dir is None
        self.base = tempfile.mkdtemp(prefix="sluice-e2e-") if self.own_dir else None
        self.data_dir = data_dir or os.path.join(self.base, "data")
        self.arguments = (SMALL if small else []) + list(arguments)
        self.environment = {**os.environ, **(environment or {})}
        self.wrapper = wrapper or []
        self.process = None
        self.port = None
        self.log = []

    def command(self):
        return self.wrapper + [BINARY, "serve", "--data-dir", self.data_dir, "--listen", "127.0.0.1:0", *self.arguments]

    def start(self, wait=True, timeout=20):
        self.log, self.port = [], None
        self.process = subprocess.Popen(self.command(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        env=self.environment)
        self.ready = threading.Event()
        threading.Thread(target=self._read_log, args=(self.process, self.log, self.ready), daemon=True).start()
        if wait and not self.ready.wait(timeout):
            self.process.kill()
            raise AssertionError("not ready: " + "".join(self.log))
        if wait and self.port is None:
            raise AssertionError("start failed: " + "".join(self.log))
        return self

    def _read_log(self, process, log, ready):
        """The log and the event are those of this process: a killed one may still be read when the next has started."""
        for line in process.stderr:
            text = line.decode("utf-8", "replace")
            log.append(text)
            match = re.search(r"ready.*?http://[^ :]+:(\d+)", text)
            if match and not ready.is_set():
                self.port = int(match.group(1))
                ready.set()
        process.stderr.close()
        ready.set()

    def log_text(self):
        return "".join(self.log)

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self, timeout=40):
        """Orderly; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def stop_clean(self):
        """Orderly, with exit code 0 and nothing in its log that an assertion or a sanitizer said."""
        code = self.stop()
        wait_until(lambda: self.process.stderr.closed)
        bad = [line for line in self.log if re.search(r"ASSERT|Sanitizer|runtime error", line)]
        assert code == 0 and not bad, f"exit code {code}: {''.join(bad or self.log[-5:])}"

    def connect(self, timeout=10):
        return Connection(self.port, timeout)

    def request(self, method, path, body=b"", headers=None, timeout=30):
        with self.connect(timeout) as connection:
            connection.send(request_bytes(method, path, encode(body) if body != b"" else b"", headers))
            response = connection.response(head_request=method == "HEAD")
            assert response is not None, f"no answer to {method} {path}"
            return response

    def post(self, path, body, headers=None):
        return self.request("POST", path, body, headers)

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def ledger(self):
        return self.get("/v1/ledger").json()

    def dump(self, *arguments):
        """Records of the log as dicts."""
        result = subprocess.run([BINARY, "dump", "--data-dir", self.data_dir, *arguments],
                                capture_output=True, timeout=120)
        assert result.returncode == 0, result.stderr.decode()
        return [json.loads(line) for line in result.stdout.splitlines()]

    def dump_lines(self, *arguments):
        result = subprocess.run([BINARY, "dump", "--data-dir", self.data_dir, *arguments],
                                capture_output=True, timeout=120)
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.splitlines()

    def verify(self):
        return subprocess.run([BINARY, "verify", "--data-dir", self.data_dir], capture_output=True, timeout=120)

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        if self.own_dir:
            shutil.rmtree(self.base, ignore_errors=True)


def wait_until(condition, timeout=10, step=0.01):
    """Polls until condition() is truthy; returns its value or raises."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(step)
    raise AssertionError(f"timed out after {timeout} s")
