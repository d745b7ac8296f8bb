"""A real PostgreSQL of its own: initdb in a directory, a Unix socket there and a TCP port, run as a user that is not root.

    with Postgres(directory) as postgres:
        postgres.sql("CREATE TABLE ...")
        rows = postgres.rows("SELECT ...")           # lists of strings, None for NULL
        postgres.stop(); postgres.start()

REASON says why there is none (not installed, no user to run it as). Standard library only.
"""
import csv
import glob
import io
import os
import pwd
import shutil
import socket
import subprocess
import time


def find_tools():
    """The directory of initdb and postgres: of the newest version that Debian has, else of the PATH."""
    for directory in sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), reverse=True):
        if os.access(os.path.join(directory, "initdb"), os.X_OK):
            return directory
    found = shutil.which("initdb")
    return os.path.dirname(os.path.realpath(found)) if found else None


def find_user():
    """Whom to run it as: None when we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


TOOLS, USER = find_tools(), find_user()
REASON = None
if TOOLS is None:
    REASON = "PostgreSQL (initdb) is not installed"
elif os.geteuid() == 0 and (USER is None or not shutil.which("setpriv")):
    REASON = "PostgreSQL refuses to run as root, and there is no user postgres or nobody, or no setpriv, to run it as"


def as_user(command):
    if USER is None:
        return command
    return ["setpriv", f"--reuid={USER.pw_uid}", f"--regid={USER.pw_gid}", "--clear-groups", *command]


class Postgres:
    def __init__(self, directory):
        self.directory = directory
        self.data = os.path.join(directory, "data")
        self.log = os.path.join(directory, "log")
        os.chmod(directory, 0o755)
        if USER is not None:
            os.chown(directory, USER.pw_uid, USER.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None
        self.run("initdb", "-D", self.data, "-U", "owner", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        with open(os.path.join(self.data, "pg_hba.conf"), "w") as hba:
            hba.write("local all all trust\nhost all secretive 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
        self.start()

    def run(self, tool, *arguments):
        result = subprocess.run(as_user([os.path.join(TOOLS, tool), *arguments]), capture_output=True, timeout=120, cwd="/")
        assert result.returncode == 0, (result.stdout + result.stderr).decode()

    def start(self):
        settings = {"fsync": "off", "max_connections": "20", "shared_buffers": "32MB", "log_statement": "none",
                    "track_activity_query_size": "65536", "listen_addresses": "127.0.0.1", "unix_socket_directories": self.directory, "logging_collector": "off"}
        command = [os.path.join(TOOLS, "postgres"), "-D", self.data, "-p", str(self.port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(as_user(command), stdout=log, stderr=log, cwd="/")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if subprocess.run(self.psql("SELECT 1"), capture_output=True, timeout=30).returncode == 0:
                return
            assert self.process.poll() is None, open(self.log).read()
            time.sleep(0.05)
        raise AssertionError("PostgreSQL does not answer: " + open(self.log).read())

    def psql(self, text):
        return ["psql", "-X", "-q", "-h", self.directory, "-p", str(self.port), "-U", "owner", "-d", "postgres",
                "-v", "ON_ERROR_STOP=1", "--csv", "-P", "null=\\N", "-t", "-c", text]

    def sql(self, text):
        result = subprocess.run(self.psql(text), capture_output=True, timeout=120)
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.decode()

    def rows(self, text):
        return [[None if field == "\\N" else field for field in row] for row in csv.reader(io.StringIO(self.sql(text)))]

    def stop(self, kill=False):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(9 if kill else 2)  # SIGINT: fast shutdown
            self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
