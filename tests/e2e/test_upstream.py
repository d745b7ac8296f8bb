"""The scripted upstream and its oracle judge others: here they are judged. A plain client, no server of ours."""
import gzip
import http.client
import json
import ssl
import subprocess
import unittest

from upstream import (Certificates, Oracle, Upstream, bulk, cut, garbage, half_close, lost, ok, poison, reset, silence, status, switch, too_large, too_many)


def entry(lsn, at="2025-01-01T00:00:00Z"):
    return {"id": f"id{lsn}", "lsn": lsn, "kind": "log", "received_at": at, "record": {"message": f"m {lsn}"}}


def body(*entries):
    return b"\n".join(json.dumps(e).encode() for e in entries)


def post(up, data, key="k", context=None, **headers):
    connection = (http.client.HTTPSConnection("127.0.0.1", up.port, timeout=2, context=context) if context
                  else http.client.HTTPConnection("127.0.0.1", up.port, timeout=2))
    try:
        connection.request("POST", "/in", data, {"Idempotency-Key": key, **headers})
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


class Actions(unittest.TestCase):
    def test_the_script_is_played_in_order_and_then_the_mode(self):
        with Upstream() as up:
            up.next(status(503), too_many(seconds=7), poison(b"bad"), too_large(3))
            answers = [post(up, b"bad!") for _ in range(5)]
            self.assertEqual([a.status for a in answers], [503, 429, 400, 413, 200])
            self.assertEqual(answers[1].headers["Retry-After"], "7")
            self.assertEqual((len(up.requests), len(up.stored)), (5, 1))

    def test_no_answer_is_no_answer(self):
        for action, is_stored in ((reset(), False), (half_close(), False), (lost(), True), (cut(50), True), (silence(), False), (garbage(), False)):
            with Upstream() as up:
                up.next(action)
                with self.assertRaises((OSError, http.client.HTTPException)):
                    post(up, b"x")
                self.assertEqual((len(up.requests), len(up.stored)), (1, int(is_stored)))

    def test_down_is_down_and_up_is_the_same_port(self):
        with Upstream() as up:
            port = up.port
            up.down()
            with self.assertRaises(OSError):
                post(up, b"x")
            up.up()
            self.assertEqual((post(up, b"x").status, up.port), (200, port))

    def test_encoded_bodies_are_decoded(self):
        zstd = subprocess.run(["zstd", "-cq"], input=b"hello", capture_output=True, check=True).stdout
        with Upstream() as up:
            post(up, gzip.compress(b"hello"), **{"Content-Encoding": "gzip"})
            post(up, zstd, **{"Content-Encoding": "zstd"})
            self.assertEqual([request.body for request in up.requests], [b"hello", b"hello"])

    def test_certificates_are_shown_and_demanded(self):
        with Certificates() as certificates, Upstream(tls=certificates.server_context(demand_client=True)) as up:
            context = ssl.create_default_context(cafile=certificates.path("ca.pem"))
            with self.assertRaises((OSError, http.client.HTTPException)):
                post(up, b"x", context=context)
            context.load_cert_chain(certificates.path("client.pem"), certificates.path("client.key"))
            self.assertEqual(post(up, b"x", context=context).status, 200)
            up.tls = certificates.server_context("stranger")
            with self.assertRaises(ssl.SSLError):
                post(up, b"x", context=context)

    def test_bulk_items_have_their_own_status(self):
        lines = b"".join(b'{"create":{"_index":"i","_id":"%d"}}\n{"n":%d}\n' % (n, n) for n in (1, 2, 3))
        with Upstream(bulk(lambda identifier, source: 400 if source["n"] == 2 else None)) as up:
            self.assertEqual([post(up, lines).status, post(up, lines).status], [200, 200])
            self.assertEqual(sorted(up.documents), ["1", "3"])
            self.assertEqual(up.problems, [])

    def test_a_choice_may_depend_on_the_request(self):
        with Upstream(switch(lambda request: ok() if b"good" in request.body else status(500))) as up:
            self.assertEqual([post(up, b"good").status, post(up, b"else").status], [200, 500])


class Judgement(unittest.TestCase):
    def judge(self, *sent, expected=None):
        with Upstream() as up:
            for key, data in sent:
                post(up, data, key)
            return Oracle(up).check(expected)

    def test_good_deliveries_pass(self):
        self.judge(("a", body(entry(1), entry(2))), ("a", body(entry(1), entry(2))), ("b", body(entry(3))), expected=[1, 2, 3]).in_order()

    def test_each_crime_is_found(self):
        crimes = {
            "another body": [("a", body(entry(1))), ("a", body(entry(2)))],
            "different keys": [("a", body(entry(1))), ("b", body(entry(1), entry(2)))],
            "not delivered": [("a", body(entry(1)))],
            "nobody expected": [("a", body(entry(1), entry(2), entry(3)))],
            "No Idempotency-Key": [("", body(entry(1), entry(2)))],
        }
        for text, sent in crimes.items():
            with self.subTest(text), self.assertRaisesRegex(AssertionError, f"(?i){text}"):
                self.judge(*sent, expected=[1, 2])

    def test_old_beside_new_disorder_and_changed_bytes_are_found(self):
        oracle = self.judge(("a", body(entry(2, "2025-01-02T00:00:00Z"), entry(1))))
        with self.assertRaisesRegex(AssertionError, "old and new"):
            oracle.never_mixed("2025-01-01T12:00:00Z")
        with self.assertRaisesRegex(AssertionError, "out of order"):
            oracle.in_order()
        changed = body(entry(1)).replace(b"m 1", b"m  1")
        with self.assertRaisesRegex(AssertionError, "changed"):
            oracle.bytes_are_those_of([changed, body(entry(2))])


if __name__ == "__main__":
    unittest.main()
