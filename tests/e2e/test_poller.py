"""Pollers against a real PostgreSQL: each row enters the log once, over kills of the server and trouble of the database."""
import contextlib
import json
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import unittest

import postgres
from harness import Server, record, wait_until

KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "8"))
NARROW = "CREATE TABLE metrics (time timestamptz NOT NULL, agent_step int, metric text, value float8)"


def said(line):
    """A record of `dump` as (time, step, metric, value), the value as its digits."""
    fields = json.loads(line, parse_float=str, parse_int=str)["record"]
    tags = fields["tags"]
    return fields["timestamp"], tags.get("agent_step"), fields["name"], fields["value"]


@unittest.skipIf(postgres.REASON, postgres.REASON)
class Poller(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="sluice-poller-")
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.db = postgres.Postgres(cls.directory)
        cls.addClassCleanup(cls.db.stop)

    def setUp(self):
        self.db.sql("DROP SCHEMA public CASCADE")
        self.db.sql("CREATE SCHEMA public")

    def conninfo(self, user="owner", **more):
        fields = {"host": self.db.directory, "port": self.db.port, "user": user, "dbname": "postgres", **more}
        return " ".join(f"{key}={value}" for key, value in fields.items())

    def arguments(self, name="p", conninfo=None, **more):
        settings = {"conninfo": conninfo or self.conninfo(), "table": "metrics", "interval": "100ms", "settle": "0", **more}
        return [word for key, value in settings.items() for word in ("--set", f"poller.{name}.{key}={value}")]

    def server(self, **more):
        return Server(*self.arguments(**more))

    def poller(self, server, name="p"):
        return next(one for one in server.get("/v1/sinks").json()["pollers"] if one["name"] == name)

    def wait_rows(self, server, count, name="p", timeout=30):
        wait_until(lambda: self.poller(server, name)["rows"] >= count, timeout, 0.05)

    def dumped(self, server):
        return sorted(map(said, server.dump_lines("--kind", "metric")), key=repr)

    def table(self, columns="time, agent_step, metric, value", table="metrics", where="true"):
        rows = self.db.rows(f"SET timezone = 'UTC'; SELECT {columns} FROM {table} WHERE {where}")
        return sorted(((row[0].replace(" ", "T").replace("+00", "") + "Z", *row[1:]) for row in rows), key=repr)

    # ---- each row once ----

    def test_each_row_is_in_the_log_once_over_kills_while_rows_are_inserted(self):
        self.db.sql(NARROW.replace("metric text", "metric text, PRIMARY KEY (time, agent_step, metric)"))
        done = threading.Event()

        def insert():
            step = 0
            while not done.is_set():
                step += 1
                self.db.sql("INSERT INTO metrics SELECT now(), s, m, random() FROM generate_series(1, 9) s, "
                            f"unnest(ARRAY['reward', 'loss', 'step {step % 7}']) m")
        writer = threading.Thread(target=insert)
        with self.server(rows_max="10") as server:
            writer.start()
            try:
                for number in range(KILLS):
                    time.sleep(random.uniform(0.1, 1.2))
                    if number % 4 == 3:
                        self.assertEqual(server.stop(), 0)
                    else:
                        server.kill9()
                    if number % 3 == 2:  # the cache is a cache
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(os.path.join(server.data_dir, "poller.cache"))
                    server.start()
            finally:
                done.set()
                writer.join()
            expected = self.table()
            wait_until(lambda: len(server.dump_lines("--kind", "metric")) >= len(expected), 60, 0.2)
            self.assertEqual(self.dumped(server), expected)
            self.assertGreater(len(expected), 200)
            server.stop_clean()
            self.assertEqual(server.verify().returncode, 0)

    def test_ties_nulls_and_rows_alike_are_neither_lost_nor_doubled_between_pages(self):
        self.db.sql("CREATE TABLE metrics (time timestamptz, agent_step int, metric text, value int)")
        self.db.sql("SELECT setseed(0.3); INSERT INTO metrics SELECT timestamptz '2025-08-25 10:00Z' + floor(random() * 6) * interval '1 us', "
                    "nullif(floor(random() * 4), 0), (ARRAY['a', 'b', 'B', 'it''s \\ \"so\"', 'é€😀'])[1 + floor(random() * 5)], n "
                    "FROM generate_series(1, 600) n")
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00:00.000003Z', 1, NULL, 7), (NULL, 1, 'a', 1)")
        expected = self.table(where="metric IS NOT NULL AND time IS NOT NULL")
        for rows_max in ("1", "3", "50"):
            with self.server(rows_max=rows_max) as server:
                self.wait_rows(server, 601)
                self.assertEqual(self.dumped(server), expected)
                self.assertEqual(self.poller(server)["invalid"], 1)
                server.stop_clean()

    def test_a_row_behind_the_newest_of_its_time_but_with_a_later_step_is_taken(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'm', 1)")
        with self.server() as server:
            self.wait_rows(server, 1)
            self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'n', 2), ('2025-08-25 10:00Z', 2, 'a', 3), ('2025-08-25 10:00Z', NULL, 'a', 4)")
            self.wait_rows(server, 4)
            self.assertEqual(self.dumped(server), self.table())

    def test_a_row_from_the_future_waits_and_holds_nothing_up(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics VALUES (now() + interval '1 hour', 1, 'm', 1), ('infinity', 1, 'm', 1), (now(), 1, 'm', 2)")
        with self.server() as server:
            self.wait_rows(server, 1)
            self.db.sql("INSERT INTO metrics VALUES (now(), 2, 'm', 3)")
            self.wait_rows(server, 2)
            self.assertEqual(sorted(row[3] for row in self.dumped(server)), ["2", "3"])

    def test_settle_leaves_young_rows_for_later(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics VALUES (now() - interval '1 hour', 1, 'm', 1), (now(), 1, 'm', 2)")
        with self.server(settle="30m") as server:
            self.wait_rows(server, 1)
            wait_until(lambda: self.poller(server)["looks"] > 5, 10)
            self.assertEqual([row[3] for row in self.dumped(server)], ["1"])

    def test_rows_of_concurrent_writers_that_commit_within_settle_are_each_taken_once(self):
        self.db.sql(NARROW)
        end = time.monotonic() + 4

        def insert(who):
            step = 0
            while time.monotonic() < end:
                step += 1
                self.db.sql(f"BEGIN; INSERT INTO metrics VALUES (now(), {step}, 'w{who}', {step}); SELECT pg_sleep({random.uniform(0, 0.3)}); COMMIT")
        writers = [threading.Thread(target=insert, args=(who,)) for who in range(4)]
        with self.server(settle="1s", rows_max="5") as server:
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            expected = self.table()
            self.wait_rows(server, len(expected))
            self.assertEqual(self.dumped(server), expected)

    # ---- values ----

    def test_numbers_keep_their_digits_and_what_is_no_number_is_counted_and_said_once(self):
        self.db.sql("CREATE TABLE metrics (time timestamptz, agent_step bigint, metric varchar(80), value numeric)")
        numbers = ["9223372036854775807", "0.1", "-0.000000000000000000000000000000001", "123456789012345678901234567890.50", "0", "1e300"]
        for step, number in enumerate(numbers):
            self.db.sql(f"INSERT INTO metrics VALUES ('2025-08-25 10:00:0{step}.5Z', {step}, 'n', {number})")
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 11:00Z', 1, 'n', NULL), ('2025-08-25 11:01Z', 1, 'n', 'NaN'), ('2025-08-25 11:02Z', 1, 'n', 'NaN'), "
                    "('2025-08-25 11:03Z', 1, 'n', 1e400), ('2025-08-25 11:04Z', 2, 'last', 4)")
        with self.server() as server:
            self.wait_rows(server, len(numbers) + 5)
            expected = self.table(where="value IS NOT NULL AND value <> 'NaN' AND value < 1e301")
            self.assertEqual(self.dumped(server), expected)
            self.assertEqual(len(expected), len(numbers) + 1)
            shown = self.poller(server)
            self.assertEqual((shown["records"], shown["invalid"]), (len(expected), 3))
            self.assertEqual(server.log_text().count("poller_invalid"), 1)

    def test_floats_of_both_widths_are_the_shortest_that_are_exact(self):
        self.db.sql("CREATE TABLE metrics (time timestamp, agent_step int, f4 real, f8 float8, i2 smallint, note text)")
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00:00.123456', 1, 0.1, 0.1, 7, 'x'), ('2025-08-25 10:00:01', 2, 'Infinity', 1e-300, NULL, 'y'), "
                    "('2025-08-25 10:00:02', NULL, '-Infinity', 12345678.9012345, -1, 'z')")
        with self.server(layout="wide") as server:
            self.wait_rows(server, 3)
            expected = [("2025-08-25T10:00:00.123456Z", "1", "f4", "0.1"), ("2025-08-25T10:00:00.123456Z", "1", "f8", "0.1"),
                        ("2025-08-25T10:00:00.123456Z", "1", "i2", "7"), ("2025-08-25T10:00:01Z", "2", "f8", "1e-300"),
                        ("2025-08-25T10:00:02Z", None, "f8", "12345678.9012345"), ("2025-08-25T10:00:02Z", None, "i2", "-1")]
            self.assertEqual(self.dumped(server), sorted(expected, key=repr))
            self.assertEqual(self.poller(server)["invalid"], 2)

    def test_records_are_metrics_with_service_table_and_step(self):
        self.db.sql('CREATE TABLE "Steps" ("order" timestamptz, reward float8, loss float8)')
        self.db.sql("INSERT INTO \"Steps\" VALUES ('2025-08-25 10:00Z', 1.5, 2)")
        with self.server(table="public.Steps", layout="wide", columns="loss", time_column="order", step_column="", service="trainer") as server:
            self.wait_rows(server, 1)
            self.assertEqual([line["record"] for line in server.dump()],
                             [{"timestamp": "2025-08-25T10:00:00Z", "service": "trainer", "name": "loss", "value": 2, "tags": {"table": "public.Steps"}}])
            self.assertEqual(len(server.get("/v1/metrics?start=2025-08-25T09:00:00Z&name=loss").json()["data"]), 1)

    def test_records_go_on_to_sinks_and_every_ledger_balances(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics SELECT timestamptz '2025-08-25 10:00Z' + n * interval '1 s', 1, 'm', n FROM generate_series(1, 200) n")
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "out")
            with Server(*self.arguments(), "--set", "sink.f.type=file", "--set", f"sink.f.path={path}") as server:
                wait_until(lambda: server.ledger()["sinks"]["f"]["delivered"] == 200, 20)
                self.assertTrue(server.ledger()["balanced"])
                self.assertIn('sluice_poller_records_total{poller="p"} 200', server.get("/metrics").body.decode())
                server.stop_clean()
            with open(path) as out:
                self.assertEqual(len(out.readlines()), 200)

    # ---- what it costs the database ----

    def test_each_branch_of_a_look_is_a_range_of_the_documented_index(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics SELECT timestamptz '2025-08-25 10:00Z' + n / 20 * interval '1 s', n % 20 / 4, 'm' || n % 4, n FROM generate_series(0, 99999) n")
        self.db.sql("CREATE INDEX ON metrics (time, agent_step, metric); ANALYZE metrics")
        with self.server(interval="10s", rows_max="1000", table="public.metrics") as server:
            self.wait_rows(server, 3000)
            text = self.last_query(server)
            look = re.search(r"SELECT .* WITH TIES(?=;COMMIT)", text, re.S).group(0)
            self.assertIn("UNION ALL", look)
            plan = json.loads(self.db.sql(f"EXPLAIN (FORMAT JSON) {look}").replace('""', '"').strip().strip('"'))
            nodes = []

            def walk(node):
                nodes.append(node)
                for child in node.get("Plans", []):
                    walk(child)
            walk(plan[0]["Plan"])
            kinds = [node["Node Type"] for node in nodes]
            self.assertNotIn("Seq Scan", kinds)
            scans = [node for node in nodes if "Scan" in node["Node Type"] and "Relation Name" in node]
            self.assertEqual(len(scans), look.count("SELECT *"))
            for scan in scans:
                self.assertIn("Index", scan["Node Type"])
                self.assertIn('"time"', scan["Index Cond"])
            self.assertLess(plan[0]["Plan"]["Total Cost"], 2000)

    def last_query(self, server):
        def ask():
            rows = self.db.rows("SELECT query FROM pg_stat_activity WHERE application_name = 'sluice/p' AND query LIKE '%UNION ALL%'")
            return rows and rows[0][0]
        return wait_until(ask, 10, 0.05)

    def test_one_connection_that_reads_only_at_the_interval_and_says_who_it_is(self):
        self.db.sql(NARROW)
        self.db.sql("CREATE FUNCTION spy() RETURNS float8 LANGUAGE sql AS 'SELECT CASE current_setting(''transaction_read_only'') WHEN ''on'' "
                    "THEN extract(epoch FROM current_setting(''statement_timeout'')::interval)::float8 END'")
        self.db.sql("CREATE VIEW spied AS SELECT timestamptz '2025-08-25 10:00Z' AS time, 1 AS agent_step, 'm' AS metric, spy() AS value")
        with self.server(table="spied", interval="500ms", statement_timeout="3s") as server:
            self.wait_rows(server, 1)
            began, before = time.monotonic(), self.poller(server)["looks"]
            wait_until(lambda: self.poller(server)["looks"] >= before + 4, 20)
            self.assertLessEqual(self.poller(server)["looks"] - before, (time.monotonic() - began) / 0.5 + 1)
            self.assertEqual(self.db.rows("SELECT count(*), count(*) FILTER (WHERE state = 'idle in transaction') FROM pg_stat_activity "
                                          "WHERE application_name = 'sluice/p'"), [["1", "0"]])
            self.assertEqual([line["record"]["value"] for line in server.dump()], [3])

    # ---- trouble ----

    def reason(self, server, part, name="p"):
        return wait_until(lambda: re.search(part, self.poller(server, name)["reason"] or ""), 20, 0.05)

    def expect_ingest(self, server):
        self.assertEqual(server.post("/v1/logs", record(1)).status, 202)
        self.assertEqual(server.get("/healthcheck").status, 200)

    def test_a_database_that_goes_away_is_a_reason_and_its_rows_come_when_it_is_back(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'm', 1)")
        with self.server() as server:
            self.wait_rows(server, 1)
            for kill in (False, True):
                self.db.stop(kill)
                self.reason(server, "server|connection")
                self.expect_ingest(server)
                self.assertFalse(self.poller(server)["connected"])
                self.db.start()
                self.db.sql("INSERT INTO metrics SELECT now(), n, 'm', n FROM generate_series(1, 50) n")
                expected = self.table()
                wait_until(lambda: len(self.dumped(server)) >= len(expected), 30, 0.2)
                self.assertEqual(self.dumped(server), expected)
            wait_until(lambda: self.poller(server)["reason"] in (None, ""), 10)
            self.assertGreaterEqual(self.poller(server)["reconnects"], 2)

    def test_a_missing_table_and_a_missing_right_are_said_and_mended(self):
        self.db.sql("DROP ROLE IF EXISTS reader")
        self.db.sql("CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA public TO reader")
        with self.server(conninfo=self.conninfo("reader")) as server:
            self.reason(server, 'relation "metrics" does not exist')
            self.db.sql(NARROW)
            self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'm', 1)")
            self.reason(server, "permission denied for table metrics")
            self.expect_ingest(server)
            self.db.sql("GRANT SELECT ON metrics TO reader")
            self.wait_rows(server, 1)
            self.assertEqual(self.dumped(server), self.table())
        self.db.sql("DROP OWNED BY reader; DROP ROLE reader")

    def test_a_column_that_is_missing_or_no_number_is_named(self):
        self.db.sql("CREATE TABLE metrics (time timestamptz, agent_step int, metric text, value text)")
        with self.server() as server:
            self.reason(server, "metrics.value is of a type that is no number")
            self.db.sql("ALTER TABLE metrics DROP COLUMN value, ADD COLUMN other int")
            self.reason(server, "metrics has no column value")
            self.db.sql("DROP TABLE metrics; CREATE TABLE metrics (time text, agent_step int, metric text, value int)")
            self.reason(server, "metrics.time is no timestamp")

    def test_a_wrong_password_is_said_and_never_shown(self):
        self.db.sql("DROP ROLE IF EXISTS secretive")
        self.db.sql("CREATE ROLE secretive LOGIN PASSWORD 'right-one'; GRANT USAGE ON SCHEMA public TO secretive")
        self.db.sql(NARROW)
        self.db.sql("GRANT SELECT ON metrics TO secretive; INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'm', 1)")
        passfile = os.path.join(self.directory, "pgpass")

        def write(password):
            with open(os.open(passfile, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                out.write(f"*:*:*:*:{password}\n")
        write("wrong-one")
        with self.server(conninfo=self.conninfo("secretive", host="127.0.0.1", passfile=passfile)) as server:
            self.reason(server, "password authentication failed")
            self.expect_ingest(server)
            write("right-one")
            self.wait_rows(server, 1)
            self.assertNotIn("-one", server.log_text())
        self.db.sql("DROP OWNED BY secretive; DROP ROLE secretive")

    def test_a_slow_query_is_given_up_by_the_database(self):
        self.db.sql("CREATE VIEW metrics AS SELECT timestamptz '2025-08-25 10:00Z' AS time, 1 AS agent_step, 'm' AS metric, 1 AS value FROM pg_sleep(60)")
        with self.server(statement_timeout="200ms") as server:
            self.reason(server, "statement timeout")
            self.expect_ingest(server)

    def test_a_locked_table_is_not_waited_for(self):
        self.db.sql(NARROW)
        with self.server(statement_timeout="500ms") as server:
            wait_until(lambda: self.poller(server)["looks"] > 0, 10)
            holder = threading.Thread(target=self.db.sql, args=("BEGIN; LOCK TABLE metrics; SELECT pg_sleep(3); COMMIT",))
            holder.start()
            self.reason(server, "lock timeout|statement timeout")
            holder.join()

    def test_while_the_log_takes_no_records_no_table_is_looked_at_and_nothing_is_lost(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'm', 1)")
        dead = ["--set", "sink.dead.type=http", "--set", "sink.dead.url=http://127.0.0.1:9/", "--set", "store.retention_bytes=32M"]
        with Server(*self.arguments(), *dead) as server:
            self.wait_rows(server, 1)
            filler = "\n".join(json.dumps(record(n, pad="x" * 4000)) for n in range(400))
            wait_until(lambda: server.post("/v1/logs", filler).status == 429, 120)
            self.reason(server, "the log takes no records now")
            looks = self.poller(server)["looks"]
            self.db.sql("INSERT INTO metrics SELECT now(), n, 'm', n FROM generate_series(1, 20) n")
            time.sleep(0.5)
            self.assertEqual(self.poller(server)["looks"], looks)
            self.assertEqual(server.stop(), 0)
            with Server(*self.arguments(), data_dir=server.data_dir) as again:
                self.wait_rows(again, 20)
                self.assertEqual(self.dumped(again), self.table())

    def test_a_host_is_looked_up_by_name_and_one_without_addresses_holds_nobody(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'm', 1)")
        lost = self.conninfo(host="no-such-host.invalid", connect_timeout=2)
        with Server(*self.arguments("lost", lost), *self.arguments("p", self.conninfo(host="localhost"))) as server:
            self.wait_rows(server, 1)
            self.reason(server, "no-such-host.invalid|connect_timeout", "lost")
            looks = self.poller(server)["looks"]
            wait_until(lambda: self.poller(server)["looks"] > looks + 5, 10)
            server.stop_clean()

    def test_pollers_do_not_wait_for_each_other(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'm', 1)")
        self.db.sql("CREATE VIEW slow AS SELECT m.* FROM metrics m, pg_sleep(4)")
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(5)
            mute = self.conninfo(host="127.0.0.1", port=silent.getsockname()[1], connect_timeout=2)
            with Server(*self.arguments("mute", mute), *self.arguments("slow", table="slow"), *self.arguments("p")) as server:
                self.wait_rows(server, 1, timeout=3)
                wait_until(lambda: self.poller(server)["looks"] > 8, 3)
                self.assertEqual(self.poller(server, "slow")["looks"], 0)
                self.reason(server, "connect_timeout", "mute")
                self.wait_rows(server, 1, "slow")
                server.stop_clean()

    # ---- where it begins ----

    def test_a_damaged_cache_and_one_that_the_log_contradicts_are_not_believed(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics SELECT timestamptz '2025-08-25 10:00Z' + n * interval '1 s', 1, 'm', n FROM generate_series(1, 30) n")
        with self.server(rows_max="10") as server:
            path = os.path.join(server.data_dir, "poller.cache")
            self.wait_rows(server, 30)
            self.assertEqual(server.stop(), 0)
            with open(path) as file:
                good = file.read()
            for text in ("", good[:-20], good.replace("p ", "q ", 1), "x" * 5000):
                with open(path, "w") as file:
                    file.write(text)
                server.start()
                looks = lambda: self.poller(server)["looks"]
                wait_until(lambda: looks() >= 2, 10)
                self.assertEqual(self.dumped(server), self.table())
                self.assertEqual(server.stop(), 0)

    def test_a_mark_that_has_expired_is_known_by_the_cache_and_without_it_the_table_is_read_again(self):
        self.db.sql(NARROW)
        self.db.sql("INSERT INTO metrics VALUES ('2025-08-25 10:00Z', 1, 'm', 1)")
        with Server(*self.arguments(), "--set", "store.retention_bytes=32M") as server:
            self.wait_rows(server, 1)
            filler = "\n".join(json.dumps(record(n, pad="x" * 4000)) for n in range(400))
            # A 429 says that expiry is late: a reason to go on.
            wait_until(lambda: server.post("/v1/logs", filler).status in (202, 429) and server.dump("--to-lsn", "1") == [], 120)
            self.assertEqual(server.stop(), 0)
            server.start()
            wait_until(lambda: self.poller(server)["looks"] > 3, 10)
            self.assertEqual(self.poller(server)["rows"], 0)
            self.assertEqual(server.stop(), 0)
            os.unlink(os.path.join(server.data_dir, "poller.cache"))
            server.start()
            self.wait_rows(server, 1)
            self.assertIn("begins with the first row", server.log_text())

    def test_another_table_under_the_same_name_is_read_from_its_beginning(self):
        for table in ("metrics", "others"):
            self.db.sql(NARROW.replace("metrics", table))
            self.db.sql(f"INSERT INTO {table} VALUES ('2025-08-25 10:00Z', 1, '{table}', 1)")
        with self.server() as server:
            self.wait_rows(server, 1)
            self.assertEqual(server.stop(), 0)
            server.arguments = [word.replace("table=metrics", "table=others") for word in server.arguments]
            server.start()
            self.wait_rows(server, 1)
            self.assertIn("is of another table", server.log_text())
            self.assertEqual(sorted(row[2] for row in self.dumped(server)), ["metrics", "others"])

    def test_rows_wider_than_a_request_are_taken_in_several(self):
        names = [f"c{n:03d}" for n in range(300)]
        self.db.sql(f"CREATE TABLE metrics (time timestamptz, agent_step int, {', '.join(name + ' int' for name in names)})")
        self.db.sql(f"INSERT INTO metrics SELECT timestamptz '2025-08-25 10:00Z' + n * interval '1 ms', n, {', '.join(['n'] * 300)} FROM generate_series(1, 300) n")
        with Server(*self.arguments(layout="wide"), "--set", "server.max_body=1M") as server:
            self.wait_rows(server, 300)
            lines = self.dumped(server)
            self.assertEqual(len(lines), 90000)
            self.assertEqual(len(set(lines)), 90000)


if __name__ == "__main__":
    unittest.main()
