"""A scripted upstream for end-to-end tests: real sockets, real TLS, one thread per connection. It records every request that reached it and
answers by script. Standard library and the openssl and zstd commands.

    with Upstream() as up:                       # answers 200 and keeps what it got
        up.mode = status(503)                    # from now on
        up.next(lost(), reset())                 # the next two requests, then the mode again
        up.down(); up.up()                       # nobody listens; the same port again
        Oracle(up).once(expected)                # what exactly once means

An action is a function (exchange) -> True to keep the connection. What counts as stored is what an action stores: a request that is answered 200
is, one whose answer was lost on purpose is too.
"""
import collections
import datetime
import email.utils
import gzip
import json
import os
import random
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

POISON = b"poison-marker"


class Request:
    """One request as it arrived. body is decoded (gzip, zstd); wire is what came over the connection."""

    def __init__(self, number, method, path, headers, wire, client_certificate):
        self.number, self.at, self.real_at = number, time.monotonic(), time.time()
        self.method, self.path, self.headers, self.wire = method, path, headers, wire
        self.client_certificate = client_certificate
        self.key = headers.get("idempotency-key")
        self.body = decode(wire, headers.get("content-encoding"))
        self.is_stored = False
        self.status = None  # of the answer, as far as there was one

    def records(self):
        """The entries of a request, whatever its format: {"id","lsn","kind","received_at","record"} or what the sink was told to send."""
        text = self.body.strip()
        if text.startswith(b"["):
            return json.loads(text)
        if text.startswith(b"{") and b"\n" not in text:
            whole = json.loads(text)
            if "batch_id" in whole:
                return [entry for name in sorted(whole) if isinstance(whole[name], list) for entry in whole[name]]
            return [whole]
        return [json.loads(line) for line in text.split(b"\n") if line]

    def lsns(self):
        return [entry["lsn"] for entry in self.records()]

    def __repr__(self):
        return f"<{self.number} {self.method} {self.path} {self.key} {len(self.body)} bytes -> {self.status}>"


def decode(wire, encoding):
    if encoding == "gzip":
        return gzip.decompress(wire)
    if encoding == "zstd":
        result = subprocess.run(["zstd", "-dcq"], input=wire, capture_output=True, timeout=30)
        assert result.returncode == 0, result.stderr
        return result.stdout
    assert encoding in (None, "identity"), f"Content-Encoding {encoding}"
    return wire


class Exchange:
    def __init__(self, upstream, connection, request):
        self.upstream, self.connection, self.request = upstream, connection, request

    def store(self):
        self.upstream.store(self.request)

    def answer(self, code, body=b"", headers=None, reason="Said"):
        lines = [f"HTTP/1.1 {code} {reason}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.request.status = code
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        return True


# ---- actions ----

def ok(code=200, body=b'{"status":"ok"}'):
    def act(exchange):
        exchange.store()
        return exchange.answer(code, body)
    return act


def status(code, body=b'{"error":"not now"}', **headers):
    """An answer that stores nothing."""
    return lambda exchange: exchange.answer(code, body, {name.replace("_", "-"): value for name, value in headers.items()})


def too_many(seconds=None, at=None, code=429):
    """429 with Retry-After in seconds, or as the HTTP-date of the real time at."""
    value = str(seconds) if at is None else email.utils.format_datetime(
        datetime.datetime.fromtimestamp(at, datetime.timezone.utc), usegmt=True)
    return status(code, b"slow down", Retry_After=value)


def poison(marker=POISON, code=400, then=None):
    """Refuses a body with the marker, as a whole."""
    def act(exchange):
        if marker in exchange.request.body:
            return exchange.answer(code, b'{"error":"cannot parse ' + marker + b'"}\nsecond line')
        return (then or ok())(exchange)
    return act


def too_large(limit, then=None):
    return lambda exchange: exchange.answer(413, b"too large") if len(exchange.request.body) > limit else (then or ok())(exchange)


def slow(seconds, then=None):
    def act(exchange):
        exchange.upstream.stopping.wait(seconds)
        return (then or ok())(exchange)
    return act


def reset():
    """The whole request was read; the connection is torn down with RST."""
    def act(exchange):
        exchange.upstream.tear(exchange.connection)
        return False
    return act


def half_close():
    """Says that it will send nothing more, and goes on reading."""
    def act(exchange):
        exchange.connection.shutdown(socket.SHUT_WR)
        exchange.upstream.linger(exchange.connection)
        return False
    return act


def lost():
    """Stored; the connection ends without an answer."""
    def act(exchange):
        exchange.store()
        return False
    return act


def lost_reset():
    def act(exchange):
        exchange.store()
        return reset()(exchange)
    return act


def cut(bytes_sent=30):
    """Stored; the answer ends in its middle."""
    def act(exchange):
        exchange.store()
        exchange.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"status\":\"ok\"}"[:bytes_sent])
        return False
    return act


def silence():
    """Never answers; keeps the connection as long as the client does."""
    def act(exchange):
        exchange.upstream.linger(exchange.connection)
        return False
    return act


def garbage(data=None):
    """Bytes that are no HTTP."""
    def act(exchange):
        exchange.connection.sendall(data if data is not None else random.Random(exchange.request.number).randbytes(300))
        return False
    return act


def switch(choose):
    """choose(request) gives the action."""
    return lambda exchange: choose(exchange.request)(exchange)


def bulk(decide):
    """OpenSearch _bulk. decide(id, source) gives the status of an item; documents that are there already are 409 unless decide says otherwise. What
    was created is in upstream.documents."""
    def act(exchange):
        upstream, items, has_errors = exchange.upstream, [], False
        lines = exchange.request.body.split(b"\n")
        assert lines[-1] == b"", "a bulk body ends with a newline"
        for head, source in zip(lines[0:-1:2], lines[1:-1:2]):
            (op, meta), = json.loads(head).items()
            with upstream.lock:
                there = meta["_id"] in upstream.documents
                code = decide(meta["_id"], json.loads(source)) or (409 if there else 201)
                if code == 201:
                    assert not there, f"created twice: {meta['_id']}"
                    upstream.documents[meta["_id"]] = source
            item = {"_index": meta.get("_index"), "_id": meta["_id"], "status": code}
            if code >= 300:
                has_errors = True
                item["error"] = {"type": "version_conflict_engine_exception" if code == 409 else f"error_{code}", "reason": f"item says {code}"}
            items.append({op: item})
        exchange.store()
        return exchange.answer(200, json.dumps({"took": 1, "errors": has_errors, "items": items}).encode(),
                               {"Content-Type": "application/json"})
    return act


# ---- certificates ----

class Certificates:
    """A CA of our own and what it signed: server (localhost, 127.0.0.1), client; and a certificate of nobody's CA. Files in dir."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="sluice-certs-")
        self.make_root("ca")
        self.make_root("stranger", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.sign("server", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.sign("other-name", "subjectAltName=DNS:elsewhere.example")
        self.sign("client", "extendedKeyUsage=clientAuth")

    def path(self, name):
        return os.path.join(self.dir, name)

    def openssl(self, *arguments):
        result = subprocess.run(["openssl", *arguments], capture_output=True, cwd=self.dir, timeout=60)
        assert result.returncode == 0, result.stderr.decode()

    def make_root(self, name, extension="basicConstraints=critical,CA:TRUE"):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN=sluice test {name}",
                     "-addext", extension, "-keyout", f"{name}.key", "-out", f"{name}.pem")
        os.chmod(self.path(f"{name}.key"), 0o600)

    def sign(self, name, extension):
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                     "-out", f"{name}.csr")
        with open(self.path(f"{name}.ext"), "w") as out:
            out.write(extension + "\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile",
                     f"{name}.ext", "-out", f"{name}.pem")
        os.chmod(self.path(f"{name}.key"), 0o600)

    def server_context(self, name="server", demand_client=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path(f"{name}.pem"), self.path(f"{name}.key"))
        if demand_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path("ca.pem"))
        return context

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- the server ----

class Upstream:
    def __init__(self, mode=None, tls=None, keep_bodies=True):
        self.mode = mode or ok()
        self.tls = tls  # an ssl.SSLContext; may be replaced while it runs, for new connections
        self.lock = threading.RLock()
        self.planned = collections.deque()
        self.requests, self.stored, self.documents = [], [], {}
        self.connection_count, self.refused_handshakes, self.problems = 0, [], []
        self.refuse_connections = False  # accept, then RST before a byte is read
        self.keep_bodies = keep_bodies
        self.port, self.listener, self.connections = None, None, set()
        self.stopping = threading.Event()

    def next(self, *actions):
        with self.lock:
            self.planned.extend(actions)

    def store(self, request):
        with self.lock:
            request.is_stored = True
            self.stored.append(request)

    def url(self, path="/in", host="127.0.0.1"):
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def lsns(self):
        """Of what is stored, in the order of arrival, repetitions and all."""
        with self.lock:
            stored = list(self.stored)
        return [lsn for request in stored for lsn in request.lsns()]

    # life

    def up(self):
        self.stopping = threading.Event()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port or 0))
        self.listener.listen(128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()
        return self

    def down(self):
        """Nobody listens any more; connections are torn down."""
        self.stopping.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            connections = list(self.connections)
        for connection in connections:  # their threads wake up and close them
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        if not self.stopping.is_set():
            self.down()

    @staticmethod
    def tear(connection):
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        except OSError:
            pass

    def linger(self, connection):
        """Reads until the client has had enough, or the test ends."""
        connection.settimeout(0.1)
        while not self.stopping.is_set():
            try:
                if not connection.recv(65536):
                    return
            except (TimeoutError, ssl.SSLWantReadError):
                continue
            except OSError:
                return

    def accept(self, listener):
        stopping = self.stopping
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connection_count += 1
            if self.refuse_connections:
                self.tear(connection)
                continue
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            try:
                connection = self.tls.wrap_socket(connection, server_side=True)
            except (ssl.SSLError, OSError) as problem:
                with self.lock:
                    self.refused_handshakes.append(str(problem))
                return
        with self.lock:
            self.connections.add(connection)
        try:
            buffer = b""
            while not self.stopping.is_set():
                request, buffer = self.read_request(connection, buffer)
                if request is None or not self.perform(connection, request):
                    return
        except (OSError, ValueError) as problem:
            if not isinstance(problem, OSError):
                self.problems.append(repr(problem))
        except AssertionError as problem:
            self.problems.append(str(problem))
        finally:
            with self.lock:
                self.connections.discard(connection)
            try:
                connection.close()
            except OSError:
                pass

    def perform(self, connection, request):
        with self.lock:
            action = self.planned.popleft() if self.planned else self.mode
        return action(Exchange(self, connection, request))

    # HTTP

    def read_request(self, connection, buffer):
        while b"\r\n\r\n" not in buffer:
            data = connection.recv(1 << 20)
            if not data:
                return None, b""
            buffer += data
        head, rest = buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        method, path, version = lines[0].split(" ")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if version != "HTTP/1.1" or "expect" in headers:
            self.problems.append(f"a request nobody here expects: {lines}")
        if headers.get("transfer-encoding") == "chunked":
            wire, rest = self.read_chunked(connection, rest)
        else:
            length, parts, got = int(headers.get("content-length", 0)), [rest], len(rest)
            while got < length:
                data = connection.recv(1 << 20)
                if not data:
                    return None, b""  # it was cut off: nothing arrived
                parts.append(data)
                got += len(data)
            whole = b"".join(parts)
            wire, rest = whole[:length], whole[length:]
        certificate = connection.getpeercert(True) if isinstance(connection, ssl.SSLSocket) else None
        with self.lock:
            request = Request(len(self.requests), method, path, headers, wire, certificate)
            if not self.keep_bodies:
                request.wire = request.body = b""
            self.requests.append(request)
        return request, rest

    @staticmethod
    def read_chunked(connection, buffer):
        def need(count):
            nonlocal buffer
            while len(buffer) < count:
                data = connection.recv(1 << 20)
                if not data:
                    raise ConnectionError("cut off inside a chunk")
                buffer += data

        out = b""
        while True:
            while b"\r\n" not in buffer:
                need(len(buffer) + 1)
            size, buffer = buffer.split(b"\r\n", 1)
            count = int(size.split(b";")[0], 16)
            need(count + 2)
            out, buffer = out + buffer[:count], buffer[count + 2:]
            if count == 0:
                return out, buffer


# ---- what exactly once means ----

class Oracle:
    """Judges everything that reached an upstream. expected: the set of LSNs that are to be there."""

    def __init__(self, upstream):
        with upstream.lock:
            self.requests, self.stored, self.problems = list(upstream.requests), list(upstream.stored), list(upstream.problems)

    def check(self, expected=None):
        assert not self.problems, self.problems[:3]
        self.keys_say_what_is_in_them()
        self.once(expected)
        return self

    def keys_say_what_is_in_them(self):
        """Every request has a key, and one key is one body, byte for byte, over all attempts."""
        bodies = {}
        for request in self.requests:
            assert request.key, f"no Idempotency-Key: {request}"
            assert len(request.key) <= 128 and request.key.isascii() and request.key.isprintable(), request.key
            first = bodies.setdefault(request.key, request)
            assert first.body == request.body, f"another body under the same key: {first} and {request}"
            assert first.headers.get("content-type") == request.headers.get("content-type"), "the content type changed"

    def by_key(self):
        """De-duplicated: the stored requests, one for each key."""
        first = {}
        for request in self.stored:
            first.setdefault(request.key, request)
        return list(first.values())

    def once(self, expected=None):
        """After de-duplication by key each record exactly once; so whatever is there twice is there under one key in identical bodies."""
        where = {}
        for request in self.by_key():
            for lsn in request.lsns():
                assert lsn not in where, f"LSN {lsn} is in two requests with different keys: {where[lsn]} and {request}"
                where[lsn] = request
        if expected is not None:
            missing, surplus = sorted(set(expected) - set(where)), sorted(set(where) - set(expected))
            assert not missing, f"{len(missing)} records were not delivered: {missing[:10]}"
            assert not surplus, f"{len(surplus)} records nobody expected: {surplus[:10]}"

    def bytes_are_those_of(self, dump_lines):
        """Each delivered entry is, byte for byte, what sluice dump shows (format ndjson or array, record meta)."""
        by_lsn = {json.loads(line)["lsn"]: record_bytes(line) for line in dump_lines}
        for request in self.by_key():
            for line in request.body.strip().split(b"\n"):
                entry = json.loads(line)
                assert record_bytes(line) == by_lsn[entry["lsn"]], f"LSN {entry['lsn']} was changed on its way"

    def in_order(self):
        """Within a request LSNs rise."""
        for request in self.requests:
            lsns = request.lsns()
            assert all(a < b for a, b in zip(lsns, lsns[1:])), f"out of order: {request}"

    def never_mixed(self, boundary):
        """No request has records received before and after boundary (RFC 3339 text in UTC, or a function of an entry that says "old")."""
        is_old = boundary if callable(boundary) else lambda entry: entry["received_at"] < boundary
        for request in self.requests:
            kinds = {is_old(entry) for entry in request.records()}
            assert len(kinds) <= 1, f"old and new records in one request: {request}"


def record_bytes(line):
    """The bytes as the client sent them, out of {...,"record":...}."""
    return line.strip()[line.index(b'"record":') + 9:-1]
