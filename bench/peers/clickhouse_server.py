"""A private clickhouse-server (written for Debian 12's 18.16.1) to compare with: started, loaded and asked by bench/query.

It runs as the current user, with its own configuration, data and log in a directory given to it and two free ports of 127.0.0.1; Debian's
service, if that is running, is not touched. Settings are that version's defaults but for: times in UTC, connections kept for ten minutes,
and parts that a merge replaced go after a second. It dies with this script (setpriv --pdeathsig),
even when that is killed.

What fails raises RuntimeError with the end of the server's own words.
"""
import concurrent.futures
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

BINARY = shutil.which("clickhouse-server", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
TICK = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 4

CONFIG = """<?xml version="1.0"?>
<yandex>
  <logger><level>warning</level><log>{directory}/log</log><errorlog>{directory}/errors</errorlog><size>100M</size><count>1</count></logger>
  <listen_host>127.0.0.1</listen_host><http_port>{http}</http_port><tcp_port>{tcp}</tcp_port>
  <path>{directory}/data/</path><tmp_path>{directory}/tmp/</tmp_path><format_schema_path>{directory}/formats/</format_schema_path>
  <users_config>{directory}/users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database>
  <mark_cache_size>5368709120</mark_cache_size><keep_alive_timeout>600</keep_alive_timeout><timezone>UTC</timezone>
  <merge_tree><old_parts_lifetime>1</old_parts_lifetime></merge_tree>
</yandex>
"""
USERS = """<?xml version="1.0"?>
<yandex>
  <profiles><default><max_memory_usage>10000000000</max_memory_usage></default></profiles>
  <users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users>
  <quotas><default><interval><duration>3600</duration><queries>0</queries><errors>0</errors><result_rows>0</result_rows><read_rows>0</read_rows>
    <execution_time>0</execution_time></interval></default></quotas>
</yandex>
"""
COLUMNS = "timestamp DateTime, ns UInt32, service String, level String, message String, correlation_id String, raw String"


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def rows_of(body):
    """The same NDJSON as that version reads it: DateTime has whole seconds only, so the fraction goes into a column of its own."""
    return re.sub(rb'"timestamp":"([\d-]{10})T([\d:]{8})\.(\d{6})Z"', rb'"timestamp":"\1 \2","ns":\g<3>000', body)


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class ClickHouse:
    def __init__(self, directory):
        if not BINARY:
            raise RuntimeError("clickhouse-server is not installed: tools/setup bench")
        self.directory = directory
        for name in ("data", "tmp", "formats"):
            os.makedirs(os.path.join(directory, name))
        self.port, tcp = free_ports(2)
        for name, text in (("config.xml", CONFIG), ("users.xml", USERS)):
            with open(os.path.join(directory, name), "w") as file:
                file.write(text.format(directory=directory, http=self.port, tcp=tcp))
        with open(os.path.join(directory, "out"), "w") as out:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", BINARY, "--config-file", os.path.join(directory, "config.xml")],
                                            cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def wait_ready(self, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return self.ask("SELECT version() AS version")["data"][0]["version"]
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("clickhouse-server did not start: " + self.last_words())

    def last_words(self):
        words = ""
        for name in ("out", "errors"):
            try:
                with open(os.path.join(self.directory, name), errors="replace") as file:
                    words += file.read()[-1000:]
            except FileNotFoundError:
                pass
        return words

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu(self):
        """CPU seconds of the process, the threads that ended included."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def request(self, connection, sql, body=b""):
        """The answer's bytes. The statement is in the address when there is a body, else it is the body."""
        target = "/?" + urllib.parse.urlencode({"query": sql, "input_format_skip_unknown_fields": 1}) if body else "/"
        connection.request("POST", target, body or sql.encode())
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"clickhouse-server answered {answer.status}: {text[:500]} to {sql[:200]}")
        return text

    def ask(self, sql, connection=None):
        """The answer of FORMAT JSON: data, rows, statistics."""
        own = connection or self.connect()
        try:
            return json.loads(self.request(own, sql + " FORMAT JSON"))
        finally:
            if not connection:
                own.close()

    def tell(self, sql):
        connection = self.connect()
        try:
            self.request(connection, sql)
        finally:
            connection.close()

    def make_table(self, table):
        self.tell(f"CREATE TABLE {table} ({COLUMNS}) ENGINE = MergeTree ORDER BY timestamp")

    def load(self, table, inserts):
        """Each insert is a list of bodies; over four connections. Seconds from the first to the last answer."""
        sql = f"INSERT INTO {table} FORMAT JSONEachRow"

        def send(share):
            connection = self.connect()
            for bodies in share:
                self.request(connection, sql, b"".join(bodies))
            connection.close()
        shares = [inserts[i::CONNECTIONS] for i in range(CONNECTIONS)]
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(send, shares))
        return time.monotonic() - begin

    def active_parts(self, table):
        return [p["name"] for p in self.ask(f"SELECT name FROM system.parts WHERE database = 'default' AND table = {quoted(table)} AND active")["data"]]

    def merge(self, table, seconds=60):
        """To one part. Asked again while a merge that was under way keeps it from doing so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tell(f"OPTIMIZE TABLE {table} FINAL")
            if len(self.active_parts(table)) == 1:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{table} was not merged to one part in {seconds} s")

    def count(self, table):
        return int(self.ask(f"SELECT count() AS n FROM {table}")["data"][0]["n"])

    def stored(self, table):
        """Bytes of the files of its active parts, as du --apparent-size has them: what a merge replaced stays some seconds more and is not counted."""
        folder = os.path.join(self.directory, "data", "data", "default", table)
        return sum(entry.stat().st_size for part in self.active_parts(table) for entry in os.scandir(os.path.join(folder, part)))
