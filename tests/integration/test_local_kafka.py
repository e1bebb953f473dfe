"""The local Kafka: it keeps its data and address, never outlives its parent, and says what is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from streamil.errors import LocalKafkaError
from streamil.experiment import Kafka
from streamil.kafka import TopicWriter, ensure_topic, last_message
from streamil.local_kafka import LocalKafka, cache_folder, install

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("installed_kafka")]

PARENT = """
import sys, threading, time
from pathlib import Path
from streamil.local_kafka import LocalKafka
kafka = LocalKafka(Path(sys.argv[1]))
starter = threading.Thread(target=kafka.start)   # the thread ends at once, the process does not
starter.start(); starter.join()
print("ready", kafka.address, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the tests use one after the other, so that its storage is formatted once."""
    return tmp_path_factory.mktemp("own-kafka")


def processes(folder: Path) -> list[psutil.Process]:
    """Guard and Java of the broker on `folder`, in this order."""
    commands = [(one, one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    return [one for one, words in commands if "kafka.Kafka" in words and f"{folder}/server.properties" in words]


def test_a_restart_keeps_data_and_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:NoSuchOption")  # what is meant for another Java does not reach ours
    with LocalKafka(folder) as kafka:
        address = kafka.address
        settings = Kafka(bootstrap_servers=address)
        ensure_topic(settings, "kept")
        with TopicWriter(settings, "kept") as writer:
            writer.send(b"value")
            assert writer.flush(10)
    assert not processes(folder)
    with LocalKafka(folder) as kafka:
        assert kafka.address == address
        found = last_message(settings, "kept")
        assert found is not None and found.value == b"value"
        monkeypatch.setattr("streamil.local_kafka.broker.LOCK_SECONDS", 0.1)
        with pytest.raises(LocalKafkaError, match="another process"):
            LocalKafka(folder).start()


def test_a_new_folder_takes_the_preferred_port_where_it_is_free(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert LocalKafka(tmp_path / "one", preferred=taken).reserve() != f"127.0.0.1:{taken}"
    assert LocalKafka(tmp_path / "two", preferred=taken).reserve() == f"127.0.0.1:{taken}"


def test_the_broker_is_gone_after_its_parent_is_killed(folder: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent, parent.stdout:
        assert parent.stdout.readline().startswith("ready")
        guard, java = processes(folder)
        time.sleep(0.5)
        assert java.is_running() and os.getsid(java.pid) != os.getsid(0)  # a Ctrl-C of ours does not reach it
        parent.send_signal(signal.SIGKILL)
    assert not psutil.wait_procs([guard, java], timeout=10)[1]


@pytest.mark.slow
def test_the_broker_is_gone_after_its_guard_is_killed(folder: Path) -> None:
    with LocalKafka(folder):
        guard, java = processes(folder)
        guard.kill()
        assert not psutil.wait_procs([java], timeout=5)[1]


def test_a_taken_port_is_named(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalKafkaError, match=rf"port {port} of 127\.0\.0\.1 is taken"):
            LocalKafka(folder, port=port).start()
    assert not processes(folder)


def test_a_start_that_fails_quotes_the_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamil.local_kafka.broker._is_free", lambda port: True)  # taken a moment after we looked
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalKafkaError, match="Address already in use"):
            LocalKafka(folder, port=port).start()
    assert not processes(folder)


def test_an_incomplete_download_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = install.jars()
    monkeypatch.setenv("STREAMIL_CACHE", str(tmp_path))
    folder = cache_folder() / f"kafka-{install.KAFKA_VERSION}"
    folder.mkdir()
    (folder / "a.jar").write_bytes(b"12345")
    (folder / "jars.txt").write_text("5 a.jar\n")
    assert install.jars() == [folder / "a.jar"]
    (folder / "a.jar").write_bytes(b"1234")
    fetched: list[Path] = []

    def download(target: Path, report: install.Report) -> None:
        fetched.append(target)
        (target / "a.jar").write_bytes(b"12345")

    monkeypatch.setattr(install, "_download", download)
    assert install.jars() == [folder / "a.jar"] and fetched == [folder] and len(whole) > 40


@pytest.mark.slow
def test_several_processes_install_at_once_into_an_empty_cache(tmp_path: Path) -> None:
    code = "from streamil.local_kafka import install; print(len(install.jars(lambda stage, done: None)))"
    environment = os.environ | {"STREAMIL_CACHE": str(tmp_path / "cache")}
    first = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)
    time.sleep(8)
    first.kill()  # in the middle of it
    first.wait()
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)]
    assert len({one.communicate()[0] for one in both}) == 1
    assert [one.returncode for one in both] == [0, 0]
