"""HTTP/1.1 rules with raw bytes: what is refused, with which status, and that nothing of it is stored. After each hostile
request the same server answers a healthy one. Rows say what they send; `refused` in the log means that a row got through."""
import gzip
import json
import os
import socket
import struct
import subprocess
import threading
import time
import unittest
import zlib

from harness import Server, encode, record, wait_until

BAD = encode(record(0, message="refused"))  # what no row may leave in the log
GOOD = encode(record(1, message="healthy"))
BIG = 16 * 1024 * 1024


def post(*fields, body=BAD, line="POST /v1/logs HTTP/1.1", host=True):
    """A request head from whole header lines; the body follows as it is."""
    lines = [line] + (["Host: test"] if host else []) + list(fields)
    return b"\r\n".join(x if isinstance(x, bytes) else x.encode("latin-1") for x in lines) + b"\r\n\r\n" + body


def sized(*fields, body=BAD, **more):
    return post(*fields, f"Content-Length: {len(body)}", body=body, **more)


def get(*fields, line="GET /healthcheck HTTP/1.1", host=True):
    return post(*fields, body=b"", line=line, host=host)


def chunk(data, extension=b"", end=b"\r\n"):
    return b"%x" % len(data) + extension + b"\r\n" + data + end


def chunked(wire, *fields):
    return post("Transfer-Encoding: chunked", *fields, body=wire)


LAST = b"0\r\n\r\n"
SMUGGLED = sized()  # a second request behind the refused one
LENGTH = f"Content-Length: {len(BAD)}"
WHOLE = chunk(BAD) + LAST

# Each row: name, bytes, the statuses the table allows. All of these are framing or syntax errors: the connection closes.
CLOSING = [
    # Content-Length with Transfer-Encoding: smuggling whoever wins.
    ("CL and TE", post(LENGTH, "Transfer-Encoding: chunked", body=WHOLE + SMUGGLED), {400}),
    ("TE and CL", post("Transfer-Encoding: chunked", LENGTH, body=WHOLE + SMUGGLED), {400}),
    ("CL 0 and TE", post("Content-Length: 0", "Transfer-Encoding: chunked", body=WHOLE + SMUGGLED), {400}),
    ("CL and unknown TE", post(LENGTH, "Transfer-Encoding: xchunked", body=WHOLE), {400, 501}),
    # Transfer-Encoding: exactly "chunked", once.
    ("TE chunked, gzip", post("Transfer-Encoding: chunked, gzip", body=WHOLE), {400, 501}),
    ("TE gzip, chunked", post("Transfer-Encoding: gzip, chunked", body=WHOLE), {400, 501}),
    ("TE chunked, chunked", post("Transfer-Encoding: chunked, chunked", body=WHOLE), {400, 501}),
    ("TE twice", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=WHOLE), {400}),
    ("TE chunked and identity", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=WHOLE), {400, 501}),
    ("TE identity", post("Transfer-Encoding: identity", body=WHOLE), {400, 501}),
    ("TE xchunked", post("Transfer-Encoding: xchunked", body=WHOLE), {501}),
    ("TE gzip", post("Transfer-Encoding: gzip", body=WHOLE), {501}),
    ("TE quoted", post('Transfer-Encoding: "chunked"', body=WHOLE), {400, 501}),
    ("TE empty", post("Transfer-Encoding: ", body=WHOLE), {400, 501}),
    ("TE comma first", post("Transfer-Encoding: ,chunked", body=WHOLE), {400, 501}),
    ("TE with parameter", post("Transfer-Encoding: chunked;q=1", body=WHOLE), {400, 501}),
    ("TE with vertical tab", post(b"Transfer-Encoding: \x0bchunked", body=WHOLE), {400}),
    ("TE with NUL", post(b"Transfer-Encoding: chunked\0", body=WHOLE), {400}),
    ("TE in HTTP/1.0", post("Transfer-Encoding: chunked", body=WHOLE, line="POST /v1/logs HTTP/1.0"), {400}),
    ("TE with space before colon", post("Transfer-Encoding : chunked", body=WHOLE), {400}),
    ("TE folded", post("Transfer-Encoding:\r\n chunked", body=WHOLE), {400}),
    # Content-Length: one plain number.
    ("CL twice alike", post(LENGTH, LENGTH), {400}),
    ("CL twice different", post(LENGTH, "Content-Length: 5"), {400}),
    ("CL list", post(f"Content-Length: {len(BAD)}, {len(BAD)}"), {400}),
    ("CL plus", post(f"Content-Length: +{len(BAD)}"), {400}),
    ("CL minus", post("Content-Length: -5"), {400}),
    ("CL hex", post("Content-Length: 0x5"), {400}),
    ("CL empty", post("Content-Length: "), {400}),
    ("CL letters", post("Content-Length: five"), {400}),
    ("CL space inside", post("Content-Length: 1 0"), {400}),
    ("CL point", post("Content-Length: 10.0"), {400}),
    ("CL exponent", post("Content-Length: 1e2"), {400}),
    ("CL 20 digits", post(f"Content-Length: {len(BAD):020}"), {400}),
    ("CL wraps 64 bits", post(f"Content-Length: {2 ** 64 + len(BAD)}"), {400}),
    ("CL wraps twice", post(f"Content-Length: {2 ** 128 + len(BAD)}"), {400}),
    ("CL no-break space", post(b"Content-Length: \xa0" + str(len(BAD)).encode()), {400}),
    ("CL twice on GET", get("Content-Length: 0", "Content-Length: 0"), {400}),
    ("CL space before colon", post(f"Content-Length : {len(BAD)}"), {400}),
    # Host.
    ("no Host", sized(host=False), {400}),
    ("two Hosts", sized("Host: test"), {400}),
    ("two different Hosts", sized("Host: other"), {400}),
    ("Host with space", sized("Host: a b", host=False), {400}),
    ("Host with slash", sized("Host: test/x", host=False), {400}),
    ("Host with user", sized("Host: user@test", host=False), {400}),
    ("Host with open bracket", sized("Host: [::1", host=False), {400}),
    ("Host with word as port", sized("Host: test:http", host=False), {400}),
    ("Host list", sized("Host: a, b", host=False), {400}),
    ("two Hosts in 1.0", sized("Host: other", line="POST /v1/logs HTTP/1.0"), {400}),
    # Targets.
    ("absolute-form, other host", sized(line="POST http://other/v1/logs HTTP/1.1"), {400}),
    ("absolute-form, other port", sized(line="POST http://test:81/v1/logs HTTP/1.1"), {400}),
    ("absolute-form, no Host", sized(line="POST http://test/v1/logs HTTP/1.1", host=False), {400}),
    ("absolute-form, no authority", sized(line="POST http:///v1/logs HTTP/1.1"), {400}),
    ("absolute-form, user", sized(line="POST http://u@test/v1/logs HTTP/1.1"), {400}),
    ("absolute-form, ftp", sized(line="POST ftp://test/v1/logs HTTP/1.1"), {400}),
    ("target without slash", sized(line="POST v1/logs HTTP/1.1"), {400}),
    ("target with fragment", sized(line="POST /v1/logs#x HTTP/1.1"), {400}),
    ("target with high byte", sized(line=b"POST /v1/logs\xc3\xa9 HTTP/1.1"), {400}),
    ("target with NUL", sized(line=b"POST /v1/logs\0 HTTP/1.1"), {400}),
    ("target with DEL", sized(line=b"POST /v1/logs\x7f HTTP/1.1"), {400}),
    ("asterisk for GET", get(line="GET * HTTP/1.1"), {400}),
    # White space and line ends.
    ("space before first header", post(" X: y", LENGTH, host=False), {400}),
    ("tab before first header", post("\tX: y", LENGTH, host=False), {400}),
    ("obs-fold space", sized("X: a\r\n b"), {400}),
    ("obs-fold tab", sized("X: a\r\n\tb"), {400}),
    ("obs-fold empty", sized("X: a\r\n \r\nY: b"), {400}),
    ("bare CR in value", sized("X: a\rb"), {400}),
    ("bare CR as line end", sized("X: a\rContent-Length: 5"), {400}),
    ("bare CR in request line", sized(line="POST /v1/logs\rx HTTP/1.1"), {400}),
    ("CR CR LF", sized("X: a\r"), {400}),
    ("bare LF after request line", sized().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"), {400}),
    ("bare LF after header", sized("X: a\nY: b"), {400}),
    ("bare LF everywhere", sized().replace(b"\r\n", b"\n"), {400}),
    ("bare LF as empty line", sized().replace(b"\r\n\r\n", b"\r\n\n"), {400}),
    ("LF before the request", b"\n" + sized(), {400}),
    ("CR before the request", b"\r" + sized(), {400}),
    ("empty lines without end", b"\r\n" * 50 + sized(), {400}),
    ("space before the request", b" " + sized(), {400}),
    # Header grammar.
    ("no colon", sized("nonsense"), {400}),
    ("empty name", sized(": value"), {400}),
    ("space in name", sized("X Y: value"), {400}),
    ("space before colon", sized("X : value"), {400}),
    ("tab before colon", sized("X\t: value"), {400}),
    ("NUL in name", sized(b"X\0: value"), {400}),
    ("high byte in name", sized(b"X\xc3: value"), {400}),
    ("separator in name", sized("X(y): value"), {400}),
    ("NUL in value", sized(b"X: a\0b"), {400}),
    ("bell in value", sized(b"X: a\x07b"), {400}),
    ("escape in value", sized(b"X: a\x1bb"), {400}),
    ("DEL in value", sized(b"X: a\x7fb"), {400}),
    # Request line.
    ("two spaces after method", sized(line="POST  /v1/logs HTTP/1.1"), {400}),
    ("two spaces before version", sized(line="POST /v1/logs  HTTP/1.1"), {400, 505}),
    ("tab in request line", sized(line="POST\t/v1/logs HTTP/1.1"), {400}),
    ("space after version", sized(line="POST /v1/logs HTTP/1.1 "), {400, 505}),
    ("no version", sized(line="POST /v1/logs"), {400, 505}),
    ("no target", sized(line="POST HTTP/1.1"), {400, 505}),
    ("separator in method", sized(line="PO(ST /v1/logs HTTP/1.1"), {400}),
    ("HTTP/0.9", sized(line="POST /v1/logs HTTP/0.9"), {505}),
    ("HTTP/1.2", sized(line="POST /v1/logs HTTP/1.2"), {505}),
    ("HTTP/2.0", sized(line="POST /v1/logs HTTP/2.0"), {505}),
    ("HTTP/1.10", sized(line="POST /v1/logs HTTP/1.10"), {400, 505}),
    ("HTTP/1", sized(line="POST /v1/logs HTTP/1"), {400, 505}),
    ("http/1.1", sized(line="POST /v1/logs http/1.1"), {400, 505}),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),  # two faults; either may be named
    ("TLS hello", bytes.fromhex("16030100c8010000c40303") + b"\0\x13" * 100 + b"\r\n\r\n", {400}),
    # Limits of the head.
    ("target of 9000", sized(line="POST /" + "a" * 9000 + " HTTP/1.1"), {414}),
    ("101 fields", sized(*[f"X-{i}: y" for i in range(99)]), {431}),
    ("1000 fields", sized(*[f"X-{i}: y" for i in range(1000)]), {431}),
    ("field of 17 KiB", sized("X: " + "a" * 17000), {431}),
    ("head of 17 KiB", sized(*[f"X-{i}: " + "a" * 400 for i in range(42)]), {431}),
    ("endless field", b"POST /v1/logs HTTP/1.1\r\nHost: test\r\nX: " + b"a" * 100000, {431}),
    ("endless method", b"A" * 100000, {400, 405, 414, 431, 501}),
    # Chunks.
    ("chunk size plus", chunked(b"+" + WHOLE), {400}),
    ("chunk size minus", chunked(b"-" + WHOLE), {400}),
    ("chunk size 0x", chunked(b"0x" + WHOLE), {400}),
    ("chunk size after space", chunked(b" " + WHOLE), {400}),
    ("chunk size before space", chunked(chunk(BAD, b" ") + LAST), {400}),
    ("chunk size before tab", chunked(chunk(BAD, b"\t") + LAST), {400}),
    ("chunk size missing", chunked(b"\r\n" + BAD + b"\r\n" + LAST), {400}),
    ("chunk size no hex", chunked(b"5g\r\n" + BAD + b"\r\n" + LAST), {400}),
    ("chunk size underscore", chunked(b"1_0\r\n" + BAD + b"\r\n" + LAST), {400}),
    ("chunk size 17 digits", chunked(b"%017x\r\n" % len(BAD) + BAD + b"\r\n" + LAST), {400, 413}),
    ("chunk size wraps", chunked(b"1%016x\r\n" % len(BAD) + BAD + b"\r\n" + LAST), {400, 413}),
    ("chunk size of all ones", chunked(b"ffffffffffffffff\r\n" + BAD + b"\r\n" + LAST), {400, 413}),
    ("chunk size over the limit", chunked(b"7fffffff\r\n" + BAD + b"\r\n" + LAST), {413}),
    ("second chunk size wraps the sum", chunked(chunk(b" " * 16) + b"fffffffffffffff8\r\n" + BAD), {400, 413}),
    ("chunk size LF", chunked(b"%x\n" % len(BAD) + BAD + b"\r\n" + LAST), {400}),
    ("chunk size CR", chunked(b"%x\r" % len(BAD) + BAD + b"\r\n" + LAST), {400}),
    ("chunk size CR and another byte", chunked(b"%x\rX" % len(BAD) + BAD + b"\r\n" + LAST), {400}),
    ("chunk size without CR", chunked(b"%xX\n" % len(BAD) + BAD + b"\r\n" + LAST), {400}),
    ("chunk data CR and another byte", chunked(chunk(BAD, end=b"\rX") + LAST), {400}),
    ("chunk data another byte and LF", chunked(chunk(BAD, end=b"X\n") + LAST), {400}),
    ("last chunk CR and another byte", chunked(chunk(BAD) + b"0\rX\r\n"), {400}),
    ("last line CR and another byte", chunked(chunk(BAD) + b"0\r\n\rX"), {400}),
    ("trailer CR and another byte", chunked(chunk(BAD) + b"0\r\nX: y\rX\r\n"), {400}),
    ("head ends in CR and another byte", sized(body=b"")[:-1] + b"X" + BAD, {400}),
    ("chunk data LF", chunked(chunk(BAD, end=b"\n") + LAST), {400}),
    ("chunk data CR", chunked(chunk(BAD, end=b"\r") + LAST), {400}),
    ("chunk data longer than said", chunked(b"%x\r\n" % (len(BAD) - 2) + BAD + b"\r\n" + LAST), {400}),
    ("chunk data CRLF late", chunked(chunk(BAD, end=b"  \r\n") + LAST), {400}),
    ("last chunk LF", chunked(chunk(BAD) + b"0\n\r\n"), {400}),
    ("last line LF", chunked(chunk(BAD) + b"0\r\n\n"), {400}),
    ("extension with LF", chunked(chunk(BAD, b";a\nb") + LAST), {400}),
    ("extension with CR", chunked(chunk(BAD, b";a\rb") + LAST), {400}),
    ("extension with NUL", chunked(chunk(BAD, b";a\0") + LAST), {400}),
    ("extension of 20 KiB", chunked(chunk(BAD, b";" + b"a" * 20000) + LAST), {400, 413, 431}),
    ("extensions of 20 KiB together", chunked(b"".join(chunk(b" ", b";" + b"a" * 60) for _ in range(330)) + WHOLE), {400, 413, 431}),
    ("mostly overhead", chunked(chunk(b" ") * 200000 + WHOLE), {400, 413}),
    ("trailer without colon", chunked(chunk(BAD) + b"0\r\nnonsense\r\n\r\n"), {400}),
    ("trailer LF", chunked(chunk(BAD) + b"0\r\nX: y\n\r\n"), {400}),
    ("trailer folded", chunked(chunk(BAD) + b"0\r\nX: y\r\n z\r\n\r\n"), {400}),
    ("trailer space before colon", chunked(chunk(BAD) + b"0\r\nX : y\r\n\r\n"), {400}),
    ("trailer NUL", chunked(chunk(BAD) + b"0\r\nX: \0\r\n\r\n"), {400}),
    ("trailers of 20 KiB", chunked(chunk(BAD) + b"0\r\n" + b"X: " + b"y" * 20000 + b"\r\n\r\n"), {400, 431}),
    ("1000 trailers", chunked(chunk(BAD) + b"0\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(1000)) + b"\r\n"), {400, 431}),
]

# Refused by meaning: whether the connection lives on is the server's choice, as long as it says what it does.
REFUSED = [
    ("no length", post(body=b""), {411}, None),
    ("misspelt TE is no TE", post("Transfer_Encoding: chunked", body=b""), {411}, None),
    ("CL over the limit", post("Content-Length: 3000000", body=b""), {413}, None),
    ("CL of 19 digits", post("Content-Length: 9999999999999999999", body=b""), {400, 413}, None),
    ("encoding br", sized("Content-Encoding: br"), {415}, None),
    ("encoding deflate", sized("Content-Encoding: deflate"), {415}, None),
    ("encoding gzip twice", sized("Content-Encoding: gzip, gzip"), {415}, None),
    ("encoding unknown", sized("Content-Encoding: nonsense"), {415}, None),
    ("Expect other", sized("Expect: 200-ok"), {417}, None),
    ("Expect list", sized("Expect: 100-continue, x"), {417}, None),
    ("unknown method", sized(line="BREW /v1/logs HTTP/1.1"), {405, 501}, None),
    ("method in lower case", sized(line="post /v1/logs HTTP/1.1"), {405, 501}, None),
    ("long method", sized(line="P" * 200 + " /v1/logs HTTP/1.1"), {405, 501}, None),
    ("TRACE", get(line="TRACE /v1/logs HTTP/1.1"), {405, 501}, None),
    ("CONNECT", get(line="CONNECT test:80 HTTP/1.1"), {400, 405, 501}, None),
    ("PUT", sized(line="PUT /v1/logs HTTP/1.1"), {405}, "POST"),
    ("DELETE", get(line="DELETE /v1/logs HTTP/1.1"), {405}, "POST"),
    ("PATCH", sized(line="PATCH /v1/events HTTP/1.1"), {405}, "POST"),
    ("POST healthcheck", sized(line="POST /healthcheck HTTP/1.1"), {405}, "GET"),
    ("POST metrics", sized(line="POST /metrics HTTP/1.1"), {405}, "GET"),
    ("POST ledger", sized(line="POST /v1/ledger HTTP/1.1"), {405}, "HEAD"),
    ("unknown path", sized(line="POST /v1/nothing HTTP/1.1"), {404}, None),
    ("path is case-sensitive", sized(line="POST /V1/LOGS HTTP/1.1"), {404}, None),
    ("path goes up", sized(line="POST /x/../../v1/logs HTTP/1.1"), {400, 404}, None),
    ("path with NUL escape", sized(line="POST /v1/logs%00 HTTP/1.1"), {400, 404}, None),
    ("path prefix", sized(line="POST /v1/logsx HTTP/1.1"), {404}, None),
    ("root", get(line="GET / HTTP/1.1"), {404}, None),
    ("target of 7000", get(line="GET /" + "a" * 7000 + " HTTP/1.1"), {404}, None),
    ("damaged gzip", sized("Content-Encoding: gzip", body=b"\x1f\x8bnonsense"), {400}, None),
    ("no gzip at all", sized("Content-Encoding: gzip"), {400}, None),
    ("gzip cut", sized("Content-Encoding: gzip", body=gzip.compress(BAD)[:-9]), {400}, None),
    ("gzip without trailer", sized("Content-Encoding: gzip", body=gzip.compress(BAD)[:-8]), {400}, None),
    ("gzip wrong sum", sized("Content-Encoding: gzip", body=gzip.compress(BAD)[:-8] + b"\0" * 8), {400}, None),
    ("gzip and garbage", sized("Content-Encoding: gzip", body=gzip.compress(BAD) + b"garbage"), {400}, None),
    ("zlib called gzip", sized("Content-Encoding: gzip", body=zlib.compress(BAD)), {400}, None),
    ("no zstd at all", sized("Content-Encoding: zstd"), {400}, None),
    ("zstd magic only", sized("Content-Encoding: zstd", body=b"\x28\xb5\x2f\xfd"), {400}, None),
    ("gzip bomb", sized("Content-Encoding: gzip", body=gzip.compress(BAD + b" " * 30_000_000)), {413}, None),
    ("gzip bomb in chunks", chunked(chunk(gzip.compress(BAD + b" " * 30_000_000)) + LAST, "Content-Encoding: gzip"), {413}, None),
    ("not JSON", sized(body=b"refused"), {422}, None),
]

ACCEPTED = [
    ("one CRLF before the request", b"\r\n" + sized(body=GOOD)),
    ("TE in upper case", post("TRANSFER-ENCODING: CHUNKED", body=chunk(GOOD) + LAST)),
    ("tab before the value", post(f"Content-Length:\t{len(GOOD)}\t", body=GOOD)),
    ("no space before the value", post(f"Content-Length:{len(GOOD)}", body=GOOD)),
    ("tab in a value", sized("X: a\tb", body=GOOD)),
    ("high bytes in a value", sized(b"X: \xc3\xa9\xff", body=GOOD)),
    ("empty value", sized("X:", body=GOOD)),
    ("100 fields", sized(*[f"X-{i}: y" for i in range(98)], body=GOOD)),
    ("Host with port", sized("Host: example.com:8080", host=False, body=GOOD)),
    ("Host IPv6", sized("Host: [::1]:8080", host=False, body=GOOD)),
    ("absolute-form http", sized(line="POST http://test/v1/logs HTTP/1.1", body=GOOD)),
    ("absolute-form https", sized(line="POST https://test/v1/logs HTTP/1.1", body=GOOD)),
    ("absolute-form in other case", sized(line="POST HTTP://TEST/v1/logs HTTP/1.1", body=GOOD)),
    ("query", sized(line="POST /v1/logs?a=b HTTP/1.1", body=GOOD)),
    ("chunk size in upper case", chunked(b"%X\r\n" % len(GOOD) + GOOD + b"\r\n" + LAST)),
    ("chunk size with zeros", chunked(b"%016x\r\n" % len(GOOD) + GOOD + b"\r\n" + LAST)),
    ("several zeros at the end", chunked(chunk(GOOD) + b"000\r\n\r\n")),
    ("extension", chunked(chunk(GOOD, b";name") + LAST)),
    ("extension with value", chunked(chunk(GOOD, b";a=b;c=d") + b"0;last\r\n\r\n")),
    ("trailers", chunked(chunk(GOOD) + b"0\r\nX: y\r\nExpires: never\r\n\r\n")),
    ("chunks of one byte", chunked(b"".join(chunk(GOOD[i:i + 1]) for i in range(len(GOOD))) + LAST)),
    ("gzip", sized("Content-Encoding: gzip", body=gzip.compress(GOOD))),
    ("gzip in upper case", sized("Content-Encoding: GZIP", body=gzip.compress(GOOD))),
    ("gzip in chunks", chunked(b"".join(chunk(gzip.compress(GOOD)[i:i + 7]) for i in range(0, len(gzip.compress(GOOD)), 7)) + LAST,
                               "Content-Encoding: gzip")),
    ("Expect in 1.0", sized("Expect: nonsense", line="POST /v1/logs HTTP/1.0", body=GOOD)),
    ("HTTP/1.0 without Host", sized(line="POST /v1/logs HTTP/1.0", host=False, body=GOOD)),
    ("Content-Length with leading zero", post(f"Content-Length: 0{len(GOOD)}", body=GOOD)),
]


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def send_all_one_can(connection, data):
    """A server that has answered may close while we still send."""
    try:
        connection.send(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def only_response(connection):
    """The one answer; after it the peer has closed and has sent nothing more."""
    answer = connection.response()
    if answer is not None:
        more = b""
        if not connection.is_closed(5):
            more = connection.buffer or b"(open)"
        return answer, more
    return None, b""


class Shared(unittest.TestCase):
    """One server for the whole class; nothing named `refused` may ever be in its log."""
    options = []

    @classmethod
    def setUpClass(cls):
        cls.leaks = set()
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
        stored = {line for line in self.server.dump_lines() if b"refused" in line} - self.leaks
        self.leaks |= stored  # the next test shall not fail for the same record
        self.assertEqual(stored, set(), "a refused request left something in the log")
        self.assertTrue(self.server.ledger()["balanced"])

    def healthy(self):
        answer = self.server.post("/v1/logs", GOOD)
        self.assertEqual(answer.status, 202, answer)

    def check_error(self, answer, statuses):
        self.assertIsNotNone(answer, "closed without an answer")
        self.assertIn(answer.status, statuses, answer)
        self.assertIn("detail", answer.json(), answer)
        self.assertIn("date", answer.headers)


class Rules(Shared):
    def test_framing_and_syntax_errors_are_refused_once_and_close(self):
        for name, wire, statuses in CLOSING:
            with self.subTest(name), self.server.connect() as connection:
                send_all_one_can(connection, wire)
                answer, more = only_response(connection)
                self.check_error(answer, statuses)
                self.assertEqual(answer.headers.get("connection", "").lower(), "close", answer)
                self.assertEqual(more, b"", "answered twice, or left open")
            self.healthy()

    def test_other_refusals_name_their_status(self):
        for name, wire, statuses, allow in REFUSED:
            with self.subTest(name), self.server.connect() as connection:
                send_all_one_can(connection, wire)
                answer = connection.response()
                self.check_error(answer, statuses)
                if allow:
                    self.assertIn(allow, answer.headers.get("allow", "").replace(" ", "").split(","), answer)
                if "encoding" in name:
                    self.assertIn("gzip", answer.headers.get("accept-encoding", ""), answer)
                if answer.headers.get("connection", "").lower() == "close":
                    self.assertTrue(connection.is_closed())
                else:
                    connection.send(sized(body=GOOD))
                    self.assertEqual(connection.response().status, 202, "after an error that kept the connection")
            self.healthy()

    def test_odd_but_legal_requests_are_accepted(self):
        for name, wire in ACCEPTED:
            with self.subTest(name), self.server.connect() as connection:
                connection.send(wire)
                answer = connection.response()
                self.assertIsNotNone(answer, "closed without an answer")
                self.assertEqual(answer.status, 202, answer)

    def test_every_row_in_small_pieces_is_judged_alike(self):
        """Split points must not matter: the rows again, a few bytes at a time."""
        rows = [row for row in CLOSING if len(row[1]) < 400][::3]
        for name, wire, statuses in rows:
            with self.subTest(name), self.server.connect() as connection:
                for at in range(0, len(wire), 7):
                    send_all_one_can(connection, wire[at:at + 7])
                answer, more = only_response(connection)
                self.check_error(answer, statuses)
                self.assertEqual(more, b"")
        self.healthy()

    def test_truncated_requests_leave_nothing_and_the_server_whole(self):
        wire = chunked(chunk(BAD[:40]) + chunk(BAD[40:]) + LAST)
        for at in range(1, len(wire), 5):
            with self.server.connect() as connection:
                connection.send(wire[:at])
        for at in range(1, len(sized()), 5):
            with self.server.connect() as connection:
                connection.send(sized()[:at])
        self.healthy()

    def test_a_reset_in_the_middle_harms_nobody(self):
        for _ in range(20):
            connection = self.server.connect()
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.send(post("Content-Length: 1000"))
            connection.close()
        self.healthy()


class Expect(Shared):
    def test_body_is_asked_for_and_then_taken(self):
        for value in ("100-continue", "100-Continue"):
            with self.server.connect() as connection:
                connection.send(sized(f"Expect: {value}", body=GOOD)[:-len(GOOD)])
                answer = connection.response()
                self.assertEqual((answer.status, answer.body), (100, b""))
                connection.send(GOOD)
                self.assertEqual(connection.response().status, 202)
                connection.send(sized(body=GOOD))
                self.assertEqual(connection.response().status, 202)

    def test_chunked_body_is_asked_for(self):
        with self.server.connect() as connection:
            connection.send(chunked(b"", "Expect: 100-continue"))
            self.assertEqual(connection.response().status, 100)
            connection.send(chunk(GOOD) + LAST)
            self.assertEqual(connection.response().status, 202)

    def test_no_100_when_the_body_is_already_there(self):
        with self.server.connect() as connection:
            connection.send(sized("Expect: 100-continue", body=GOOD))
            self.assertEqual(connection.response().status, 202)

    def test_no_100_for_http_1_0(self):
        with self.server.connect() as connection:
            connection.send(sized("Expect: 100-continue", line="POST /v1/logs HTTP/1.0", body=GOOD)[:-len(GOOD)])
            time.sleep(0.2)
            connection.send(GOOD)
            self.assertEqual(connection.response().status, 202)

    def test_refusals_come_from_the_head_alone(self):
        rows = [
            ("404", post("Content-Length: 9", "Expect: 100-continue", body=b"", line="POST /v1/nothing HTTP/1.1"), 404),
            ("405", post("Content-Length: 9", "Expect: 100-continue", body=b"", line="PUT /v1/logs HTTP/1.1"), 405),
            ("413", post("Content-Length: 99999999", "Expect: 100-continue", body=b""), 413),
            ("415", post("Content-Length: 9", "Expect: 100-continue", "Content-Encoding: br", body=b""), 415),
            ("400", post("Content-Length: x", "Expect: 100-continue", body=b""), 400),
        ]
        for name, wire, status in rows:
            with self.subTest(name), self.server.connect() as connection:
                connection.send(wire)
                answer = connection.response()
                self.check_error(answer, {status})
                if answer.headers.get("connection", "").lower() == "close":
                    self.assertTrue(connection.is_closed())
        self.healthy()


class Connections(Shared):
    def test_keep_alive_is_the_rule_and_close_is_obeyed(self):
        with self.server.connect() as connection:
            for _ in range(5):
                connection.send(sized(body=GOOD))
                answer = connection.response()
                self.assertEqual(answer.status, 202)
                self.assertNotEqual(answer.headers.get("connection"), "close")
            connection.send(sized("Connection: close", body=GOOD))
            answer, more = only_response(connection)
            self.assertEqual((answer.status, answer.headers["connection"].lower(), more), (202, "close", b""))
        for value in ("CLOSE", "x, close", "close, x"):
            with self.subTest(value), self.server.connect() as connection:
                connection.send(sized(f"Connection: {value}", body=GOOD) + sized())
                answer, more = only_response(connection)
                self.assertEqual((answer.status, more), (202, b""))

    def test_http_1_0_is_answered_and_closed(self):
        with self.server.connect() as connection:
            connection.send(sized(line="POST /v1/logs HTTP/1.0", body=GOOD))
            answer, more = only_response(connection)
            self.assertEqual((answer.status, more), (202, b""))
        with self.server.connect() as connection:
            connection.send(get(line="GET /healthcheck HTTP/1.0", host=False))
            answer, more = only_response(connection)
            self.assertEqual((answer.status, more), (200, b""))

    def test_http_1_0_keep_alive_does_what_the_answer_says(self):
        with self.server.connect() as connection:
            connection.send(sized("Connection: keep-alive", line="POST /v1/logs HTTP/1.0", body=GOOD))
            answer = connection.response()
            self.assertEqual(answer.status, 202)
            if answer.headers.get("connection", "").lower() == "keep-alive":
                connection.send(sized(line="POST /v1/logs HTTP/1.0", body=GOOD))
                self.assertEqual(connection.response().status, 202)
            self.assertTrue(connection.is_closed())

    def test_head_is_get_without_the_body(self):
        for path in ("/healthcheck", "/v1/ledger", "/metrics"):
            with self.subTest(path), self.server.connect() as connection:
                connection.send(get(line=f"GET {path} HTTP/1.1"))
                full = connection.response()
                connection.send(get(line=f"HEAD {path} HTTP/1.1"))
                head = connection.response(head_request=True)
                self.assertEqual((head.status, head.headers.get("content-type")), (full.status, full.headers.get("content-type")))
                if path == "/healthcheck":
                    self.assertEqual(head.headers["content-length"], full.headers["content-length"])
                connection.send(sized(body=GOOD))
                self.assertEqual(connection.response().status, 202, "the bytes of a HEAD answer end with its head")

    def test_head_of_errors_has_no_body_either(self):
        with self.server.connect() as connection:
            connection.send(get(line="HEAD /nothing HTTP/1.1") + sized(body=GOOD))
            self.assertEqual(connection.response(head_request=True).status, 404)
            self.assertEqual(connection.response().status, 202)

    def test_options(self):
        with self.server.connect() as connection:
            connection.send(get("Origin: http://a.example", "Access-Control-Request-Method: POST", line="OPTIONS /v1/logs HTTP/1.1"))
            answer = connection.response()
            self.assertIn(answer.status, (200, 204), answer)
            self.assertIn(answer.headers.get("access-control-allow-origin"), ("*", "http://a.example"), answer)
            self.assertIn("POST", answer.headers.get("access-control-allow-methods", ""), answer)
            connection.send(get(line="OPTIONS * HTTP/1.1"))
            self.assertIn(connection.response().status, (200, 204))
            connection.send(sized(body=GOOD))
            self.assertEqual(connection.response().status, 202)

    def test_one_byte_at_a_time(self):
        for wire in (sized(body=GOOD), chunked(chunk(GOOD[:30]) + chunk(GOOD[30:]) + LAST),
                     sized("Content-Encoding: gzip", body=gzip.compress(GOOD))):
            with self.server.connect() as connection:
                for at in range(len(wire)):
                    connection.send(wire[at:at + 1])
                self.assertEqual(connection.response().status, 202)

    def test_every_split_into_two_is_one_request(self):
        wire = chunked(chunk(GOOD[:30], b";x=y") + chunk(GOOD[30:]) + b"0\r\nX: y\r\n\r\n")
        with self.server.connect() as connection:
            for at in range(1, len(wire)):
                connection.send(wire[:at])
                time.sleep(0.001)
                connection.send(wire[at:])
                self.assertEqual(connection.response().status, 202, f"split at {at}")

    def test_half_close_still_gets_its_answers(self):
        with self.server.connect() as connection:
            connection.send(sized(body=GOOD) * 3)
            connection.socket.shutdown(socket.SHUT_WR)
            for _ in range(3):
                self.assertEqual(connection.response().status, 202)
            self.assertTrue(connection.is_closed())

    def test_half_close_inside_a_request_is_no_request(self):
        for wire in (sized()[:-1], chunked(chunk(BAD)), sized()[:30]):
            with self.server.connect() as connection:
                connection.send(wire)
                connection.socket.shutdown(socket.SHUT_WR)
                answer = connection.response()
                if answer is not None:
                    self.check_error(answer, {400, 408})
                self.assertTrue(connection.is_closed())

    def test_lingering_close_delivers_the_error_to_who_still_sends(self):
        body = b"refused " * 1024 * 1024  # 8 MiB, four times the limit
        for name, head in (("413", post("Content-Length: 8388608", body=b"")), ("404", post("Content-Length: 8388608", body=b"", line="POST /x HTTP/1.1")),
                           ("413 chunked", chunked(b"800000\r\n")), ("415", post("Content-Length: 1000000", "Content-Encoding: br", body=b"")),
                           ("400", post("Content-Length: x", body=b""))):
            with self.subTest(name), self.server.connect() as connection:
                connection.send(head)
                # The answer is on its way; a client that still writes must not lose it to a reset: none may come.
                for at in range(0, 128 * 1024, 16384):
                    connection.send(body[at:at + 16384])
                    time.sleep(0.002)
                self.check_error(connection.response(), {int(name[:3])})
                connection.socket.shutdown(socket.SHUT_WR)
                self.assertEqual(connection.socket.recv(1), b"", "the end is a FIN, not a reset")
            with self.subTest(name + ", all of it"), self.server.connect() as connection:
                connection.send(head)
                for at in range(0, len(body), 65536):
                    send_all_one_can(connection, body[at:at + 65536])
                self.check_error(connection.response(), {int(name[:3])})
            self.healthy()


class Pipelining(Shared):
    def test_1000_in_one_write_are_answered_in_order(self):
        bodies = [encode(record(i, message=f"pipelined {i}")) for i in range(1000)]
        with self.server.connect() as connection:
            connection.send(b"".join(sized(body=body) for body in bodies))
            lsns = []
            for _ in bodies:
                answer = connection.response()
                self.assertEqual(answer.status, 202)
                lsns.append(answer.json()["lsn"])
        self.assertEqual(lsns, sorted(lsns))
        stored = {json.loads(line)["lsn"]: json.loads(line)["record"]["message"] for line in self.server.dump_lines()}
        self.assertEqual([stored[lsn] for lsn in lsns], [f"pipelined {i}" for i in range(1000)])

    def test_a_mix_keeps_its_order(self):
        wire, expected = b"", []
        kinds = [(sized(body=GOOD), 202), (get(), 200), (sized(body=b"{}"), 422), (get(line="GET /nothing HTTP/1.1"), 404),
                 (get(line="GET /v1/ledger HTTP/1.1"), 200), (chunked(chunk(GOOD) + LAST), 202), (get(line="DELETE /v1/logs HTTP/1.1"), 405),
                 (sized("Content-Encoding: gzip", body=gzip.compress(GOOD)), 202), (sized(body=b"[" + GOOD + b"," + GOOD + b"]"), 202)]
        for i in range(500):
            request, status = kinds[(i * 7) % len(kinds)]
            wire += request
            expected.append(status)
        with self.server.connect() as connection:
            connection.send(wire)
            self.assertEqual([connection.response().status for _ in expected], expected)

    def test_more_than_the_server_holds_at_once(self):
        with self.server.connect() as connection:
            sender = threading.Thread(target=connection.send, args=(sized(body=GOOD) * 5000,), daemon=True)
            sender.start()
            for _ in range(5000):
                self.assertEqual(connection.response().status, 202)
            sender.join(10)

    def test_an_error_in_the_middle_ends_it_after_the_earlier_answers(self):
        with self.server.connect() as connection:
            connection.send(sized(body=GOOD) * 3 + sized("X : y") + sized() * 2)
            self.assertEqual([connection.response().status for _ in range(3)], [202] * 3)
            answer, more = only_response(connection)
            self.check_error(answer, {400})
            self.assertEqual(more, b"")


class Slow(Shared):
    options = ["--set", "server.head_timeout=1s", "--set", "server.body_timeout=1s", "--set", "server.idle_timeout=1500ms"]

    def wait_for_408(self, pieces, pause):
        with self.server.connect() as connection:
            start = time.monotonic()
            for piece in pieces:
                send_all_one_can(connection, piece)
                connection.socket.settimeout(pause)
                try:
                    if not connection.fill():
                        break
                    break
                except (TimeoutError, socket.timeout):
                    pass
            connection.socket.settimeout(10)
            answer, more = only_response(connection)
            took = time.monotonic() - start
            self.check_error(answer, {408})
            self.assertEqual(more, b"")
            self.assertTrue(0.8 <= took < 4, f"408 after {took:.2f} s")

    def test_half_a_head(self):
        self.wait_for_408([b"POST /v1/logs HTTP/1.1\r\nHost: te"], 0.1)

    def test_a_dripping_head_does_not_buy_time(self):
        self.wait_for_408([b"POST /v1/logs HTTP/1.1\r\nHost: test\r\n"] + [b"X: y\r\n"] * 40, 0.15)

    def test_half_a_body(self):
        self.wait_for_408([sized()[:-5]], 0.1)

    def test_a_dripping_body_does_not_buy_time(self):
        self.wait_for_408([sized()[:-len(BAD)]] + [BAD[i:i + 1] for i in range(60)], 0.1)

    def test_half_a_chunked_body(self):
        self.wait_for_408([chunked(chunk(BAD))], 0.1)

    def test_a_slow_head_after_a_good_request(self):
        with self.server.connect() as connection:
            connection.send(sized(body=GOOD) + sized()[:20])
            self.assertEqual(connection.response().status, 202)
            answer, more = only_response(connection)
            self.check_error(answer, {408})
            self.assertEqual(more, b"")

    def test_an_idle_connection_is_closed(self):
        with self.server.connect() as connection, self.server.connect() as used:
            used.send(sized(body=GOOD))
            self.assertEqual(used.response().status, 202)
            for quiet in (connection, used):
                answer = quiet.response()
                if answer is not None:
                    self.assertEqual(answer.status, 408)
                self.assertTrue(quiet.is_closed())

    def test_a_steady_slow_body_is_taken(self):
        """Slow, but above the least rate: a body that lasts longer than the time-out."""
        body = encode(record(1, message="h" * 4000))
        with self.server.connect() as connection:
            connection.send(sized(body=body)[:-len(body)])
            for at in range(0, len(body), 200):
                connection.send(body[at:at + 200])
                time.sleep(0.08)
            self.assertEqual(connection.response().status, 202)


class Crowd(unittest.TestCase):
    def test_connection_limit_answers_503_with_retry_after(self):
        with Server("--set", "server.max_connections=8") as server:
            held = [server.connect() for _ in range(8)]
            for connection in held:
                connection.send(sized(body=GOOD))
                self.assertEqual(connection.response().status, 202)
            with server.connect() as extra:
                send_all_one_can(extra, sized())
                answer, more = only_response(extra)
                self.assertIsNotNone(answer, "closed without an answer")
                self.assertEqual(answer.status, 503, answer)
                self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
                self.assertEqual(more, b"")
            for connection in held:
                connection.send(sized(body=GOOD))
                self.assertEqual(connection.response().status, 202, "those inside go on")
            held.pop().close()

            def comes_in():
                with server.connect() as connection:
                    send_all_one_can(connection, sized(body=GOOD))
                    answer = connection.response()
                    return answer is not None and answer.status == 202
            wait_until(comes_in)
            for connection in held:
                connection.close()
            self.assertFalse([line for line in server.dump_lines() if b"refused" in line])


def ndjson_of(total):
    """Exactly `total` bytes of NDJSON, half of it incompressible."""
    line = encode(record(0, message="b" * 8000)) + b"\n"
    head, tail = line.split(b"b" * 8000)
    body = b"".join(head + os.urandom(4000).hex().encode() + tail for _ in range(total // len(line) - 1))
    last = encode(record(0, message=""))
    return body + encode(record(0, message="e" * (total - len(body) - len(last))))


class LargeBodies(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(small=False)
        cls.server.start()
        cls.body = ndjson_of(BIG)
        cls.more = ndjson_of(BIG + 1)

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop_clean()
        finally:
            cls.server.__exit__()

    def ask(self, wire):
        with self.server.connect(60) as connection:
            send_all_one_can(connection, wire)
            answer = connection.response()
            self.assertIsNotNone(answer, "closed without an answer")
            return answer

    def forms(self, body):
        yield "plain", sized("Content-Type: application/x-ndjson", body=body)
        pieces = [body[at:at + 100_000] for at in range(0, len(body), 100_000)]
        yield "chunked", chunked(b"".join(chunk(piece) for piece in pieces) + LAST, "Content-Type: application/x-ndjson")
        yield "gzip", sized("Content-Type: application/x-ndjson", "Content-Encoding: gzip", body=gzip.compress(body, 1))
        yield "zstd", sized("Content-Type: application/x-ndjson", "Content-Encoding: zstd", body=zstd(body))
        yield "zstd chunked", chunked(chunk(zstd(body)) + LAST, "Content-Type: application/x-ndjson", "Content-Encoding: zstd")

    def test_16_mib_fit_in_every_form(self):
        lines = self.body.split(b"\n")
        for name, wire in self.forms(self.body):
            with self.subTest(name):
                answer = self.ask(wire)
                self.assertEqual(answer.status, 202, answer)
                self.assertEqual(answer.json()["accepted"], len(lines))
                first, last = answer.json()["first_lsn"], answer.json()["last_lsn"]
                stored = self.server.dump_lines("--from-lsn", str(first), "--to-lsn", str(last))
                self.assertEqual(len(stored), len(lines))
                for got, sent in zip(stored[-2:] + stored[:2], lines[-2:] + lines[:2]):
                    self.assertEqual(got[got.index(b'"record":') + 9:-1], sent)

    def test_one_byte_more_does_not(self):
        before = self.server.ledger()
        for name, wire in self.forms(self.more):
            with self.subTest(name):
                self.assertEqual(self.ask(wire).status, 413)
        self.assertEqual(self.server.get("/healthcheck").status, 200)
        self.assertEqual(self.server.ledger()["records"]["durable"], before["records"]["durable"], "nothing of them is stored")

    def test_one_record_of_16_mib(self):
        empty = encode(record(0, message=""))
        body = encode(record(0, message="m" * (BIG - len(empty))))
        answer = self.ask(sized(body=body))
        self.assertEqual(answer.status, 202, answer)
        stored = self.server.dump_lines("--from-lsn", str(answer.json()["lsn"]), "--to-lsn", str(answer.json()["lsn"]))
        self.assertEqual(len(stored), 1)
        self.assertEqual(stored[0][stored[0].index(b'"record":') + 9:-1], body)

    def test_what_compresses_well_is_no_bomb(self):
        """Records that differ in a number and a time, as an agent that batches sends them."""
        body = b"\n".join(encode(record(i, timestamp=f"2025-08-25T10:{i // 3600:02}:{i // 60 % 60:02}.{i % 60:03}Z")) for i in range(60000))
        for encoding, wire in (("gzip", gzip.compress(body, 9)), ("zstd", subprocess.run(["zstd", "-q", "-9", "-c"], input=body, stdout=subprocess.PIPE).stdout)):
            with self.subTest(encoding, ratio=len(body) / len(wire)):
                answer = self.ask(sized("Content-Type: application/x-ndjson", f"Content-Encoding: {encoding}", body=wire))
                self.assertEqual(answer.status, 202, answer)
                self.assertEqual(answer.json()["accepted"], 60000)

    def test_bombs_are_stopped(self):
        for encoding, press in (("gzip", lambda data: gzip.compress(data, 9)), ("zstd", zstd)):
            with self.subTest(encoding):
                wire = press(b"[" + b" " * 200_000_000 + b"]")
                answer = self.ask(sized(f"Content-Encoding: {encoding}", body=wire))
                self.assertEqual(answer.status, 413, answer.status)
        self.assertLess(self.server.resident_bytes(), 512 * 1024 * 1024)
        self.assertEqual(self.server.get("/healthcheck").status, 200)


if __name__ == "__main__":
    unittest.main()
