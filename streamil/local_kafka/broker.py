"""The broker's process: settings, start, readiness, end."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Self

from streamil.errors import LocalKafkaError
from streamil.local_kafka import install

START_SECONDS = 60.0
STOP_SECONDS = 15.0
LOCK_SECONDS = 5.0
PORTS = range(20_000, 32_000)  # below the ports that systems lend to clients: one of those could occupy ours
TELLING = (r"Caused by: (.*)", r"(?:Exception in thread \S+ )?([\w.$]+(?:Exception|Error): .*)",
           r".*(?:ERROR|FATAL) (.*)")
JAVA_OPTIONS = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss")
JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH")

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
"""

# Runs between us and Java. Its standard input is a pipe that ends when we end, however that happens: then Java is
# stopped. Java in turn is killed with the guard (Linux). A signal tied to us directly would come from the death of
# the thread that called `start`, not of the process. Both hold the folder's lock, so it is free when both are gone.
GUARD = """
import ctypes, os, signal, subprocess, sys, threading
def tie():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
java = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, preexec_fn=tie, pass_fds=[int(sys.argv[1])])
def watch():
    os._exit(java.wait() & 255)
threading.Thread(target=watch, daemon=True).start()
while os.read(0, 1):
    pass
java.terminate()
try:
    java.wait(10)
except subprocess.TimeoutExpired:
    java.kill()
java.wait()
os._exit(0)
"""


class LocalKafka:
    """A Kafka broker of our own; `with LocalKafka(folder) as kafka:` starts and stops it.

    Parameters
    ----------
    folder
        Keeps data, ports and log; a broker started again on it has its topics and its address back.
    port
        Port of the broker on 127.0.0.1; None takes the folder's port, or a free one for a new folder.
    preferred
        Port that a new folder takes if it is free; None: any.

    Attributes
    ----------
    address
        `host:port` for clients, known once started.
    log
        Kafka's own log, of this start; the one before is kept beside it.

    Raises
    ------
    LocalKafkaError
        From `install` and `start`, in one line that names the way out.
    """

    def __init__(self, folder: Path, *, port: int | None = None, preferred: int | None = None) -> None:
        self.folder = Path(folder).absolute()
        self.log = self.folder / "kafka.log"
        self._wanted_port, self._preferred = port, preferred
        self._port: int | None = None
        self._controller: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port` for clients, settled by `reserve` or `start`."""
        if self._port is None:
            raise LocalKafkaError("the local Kafka has no address before it was started")
        return f"127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        """Whether the broker's process is alive."""
        return self._guard is not None and self._guard.poll() is None

    def install(self, report: install.Report | None = None) -> None:
        """Fetch what is needed to start, unless it is there; `report(stage, fraction)` follows a download."""
        install.java()
        install.jars(report)

    def reserve(self) -> str:
        """Settle the address, so that others can be told before the broker serves; return it."""
        self._ports()
        return self.address

    def _ports(self) -> tuple[int, int]:
        properties = self.folder / "server.properties"
        known = re.findall(r"^listeners=\D+://127\.0\.0\.1:(\d+),\D+://127\.0\.0\.1:(\d+)$",
                           properties.read_text(), re.M) if properties.exists() else []
        if self._port is None or self._controller is None:
            preferred = self._preferred if self._preferred and _is_free(self._preferred) else None
            self._port = self._wanted_port or (int(known[0][0]) if known else preferred or _free_port())
            self._controller = int(known[0][1]) if known else _free_port(self._port)
        return self._port, self._controller

    def start(self) -> None:
        """Start the broker and wait until it serves; does nothing when it runs."""
        if self.running:
            return
        java, jars = install.java(), install.jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        with install.lock(self.folder / "lock", LOCK_SECONDS) as lock:
            if lock is None:
                raise LocalKafkaError(f"{self.folder}: another process runs a local Kafka on it; stop that one first")
            command = [str(java), *JAVA_OPTIONS, "-cp", os.pathsep.join(map(str, jars))]
            properties = self._configure(command)
            if self.log.exists():
                self.log.replace(self.log.with_suffix(".previous.log"))
            guard = [sys.executable, "-I", "-S", "-c", GUARD, str(lock.fileno())]
            with self.log.open("wb") as log:
                self._guard = subprocess.Popen(
                    [*guard, *command, "kafka.Kafka", str(properties)], stdin=subprocess.PIPE, stdout=log, stderr=log,
                    env=_environment(), cwd=self.folder, start_new_session=True, pass_fds=[lock.fileno()])
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker and wait until it is gone; does nothing when it does not run."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None
        guard.stdin.close()
        try:
            guard.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _kill_group(guard)

    def kill(self) -> None:
        """End the broker the way a failing machine would, without a chance to tidy up; for tests of outages."""
        guard, self._guard = self._guard, None
        if guard is not None:
            _kill_group(guard)
            assert guard.stdin is not None
            guard.stdin.close()
            with install.lock(self.folder / "lock", STOP_SECONDS):
                pass  # Java, which nobody waits for any more, is gone too

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _configure(self, command: list[str]) -> Path:
        """Settle the ports, write the settings, and format the storage of a new folder."""
        properties, data, formatted = self.folder / "server.properties", self.folder / "data", self.folder / "formatted"
        broker, controller = self._ports()
        for port in (broker, controller):
            if not _is_free(port):
                raise LocalKafkaError(f"port {port} of 127.0.0.1 is taken: stop what listens there, or take another "
                                      f"{'port' if port == broker else 'folder than ' + str(self.folder)}")
        text = PROPERTIES.format(port=broker, controller=controller, data=data)
        properties.write_text(text)
        if not formatted.exists():  # also after a format that was cut short
            shutil.rmtree(data, ignore_errors=True)
            cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).rstrip(b"=").decode()
            result = subprocess.run(
                [*command, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(properties)],
                capture_output=True, text=True, env=_environment(), start_new_session=True, timeout=START_SECONDS)
            if result.returncode:
                raise LocalKafkaError(f"{data}: Kafka could not format its storage: "
                                      f"{telling_line(result.stdout + result.stderr)}")
            formatted.touch()
        return properties

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            text = self.log.read_text(errors="replace")
            if "Kafka Server started" in text:
                return
            if not self.running:
                raise LocalKafkaError(f"the local Kafka ended while it started: {telling_line(text)} (log: {self.log})")
            if time.monotonic() > deadline:
                raise LocalKafkaError(f"the local Kafka did not start within {START_SECONDS:.0f} s (log: {self.log})")
            time.sleep(0.05)


def telling_line(log: str) -> str:
    r"""Return the line of a Java log that says most about a failure.

    Examples
    --------
    >>> telling_line("ERROR Exiting\njava.lang.RuntimeException: x\n\tat a.b\nCaused by: java.E: port taken\n\tat c")
    'java.E: port taken'
    """
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith("\t")]
    for pattern in TELLING:
        found = [match[1] for line in lines if (match := re.match(pattern, line))]
        if found:
            return found[-1]
    return lines[-1] if lines else "it printed nothing"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in JAVA_VARIABLES}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port(but: int | None = None) -> int:
    for port in random.SystemRandom().sample(PORTS, 200):
        if port != but and _is_free(port):
            return port
    raise LocalKafkaError(f"no free port among 200 tried between {PORTS.start} and {PORTS.stop} of 127.0.0.1")
