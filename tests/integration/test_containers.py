"""The containers, run: images built, the compose file brought up, processes and broker killed, the network cut, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import COMPOSE, Docker, docker_daemon, override, stand_ins
from pages import ROOT
from processes import until
from prometheus import Prometheus

from streamil.telemetry.client import fetch_status

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2400)]

SAMPLES = 6000
EXPERIMENT = {
    "name": "compose", "network": {"hidden": [16]},
    "stream": {"source": {"kind": "elec"}, "limit": SAMPLES, "rate": 100, "samples_per_record": 4},
    "arms": {"il-kfac": {"algorithm": "il-kfac", "batch_size": [1, 8]}, "bp-adam": {"algorithm": "bp-adam", "batch_size": [1, 8]}},
    "kafka": {"bootstrap_servers": "kafka:9092"},
    "service": {"snapshots": {"folder": "/var/lib/streamil/snapshots", "every_samples": 500}}}
CONSUMER = "http://127.0.0.1:9108"


@pytest.fixture(scope="module")
def docker(installed_kafka: None) -> Iterator[Docker]:
    with docker_daemon() as running:
        stand_ins(running)
        yield running


@pytest.fixture(scope="module")
def files(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The compose file, its override, and the images it builds."""
    chosen = ["-f", COMPOSE, "-f", override(tmp_path_factory.mktemp("compose"))]
    docker.compose("-f", COMPOSE, "config", "--quiet")
    docker.compose("-f", COMPOSE, "-f", COMPOSE.with_name("compose.gpu.yaml"), "config", "--quiet")
    if not os.environ.get("STREAMIL_TEST_DOCKER") or not docker.has("streamil-consumer:0.1.0"):
        docker.compose(*chosen, "build", timeout=1800)
    return chosen


def test_the_image_holds_the_program_and_runs_as_nobody(docker: Docker, files: list[object]) -> None:
    for image in ("streamil-producer:0.1.0", "streamil-consumer:0.1.0"):
        settings = json.loads(docker("image", "inspect", image))[0]["Config"]
        assert settings["User"] == "10001:10001" and settings["Entrypoint"] == ["streamil"] and "/livez" in json.dumps(settings["Env"])
        hardened = ("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--network", "none")
        assert docker(*hardened, image, "--version").startswith("streamil 0.")
        listed = docker(*hardened, "--entrypoint", "sh", image, "-c", "id -u; ls -A / /var/lib/streamil; touch /x || echo no; find / -xdev -perm -4000 -user root 2>/dev/null | wc -l")
        assert listed.startswith("10001\n") and listed.splitlines()[-2] == "no" and "build" not in listed.split()
        told = docker("history", "--no-trunc", image) + json.dumps(settings)
        assert not any(word in told.lower() for word in ("password", "token=", "secret"))
    inside = docker("run", "--rm", "--entrypoint", "python", "streamil-producer:0.1.0", "-c",
                    "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('streamil_producer') is not None)")
    assert inside == "None True", "the producer is small: it has no torch"


def learned(server: Prometheus) -> float:
    return server.value("streamil_learned_samples") or 0.0


def until_learned(server: Prometheus, samples: int) -> None:
    until(lambda: learned(server) >= samples, 180)


def until_learning() -> None:
    until(lambda: (fetch_status(CONSUMER) or {}).get("state") == "learning", 120)


def test_the_stack_learns_each_sample_once_whatever_is_killed_or_cut_off(docker: Docker, files: list[object], tmp_path: Path) -> None:
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(json.dumps(EXPERIMENT))
    experiment.chmod(0o644)
    tmp_path.chmod(0o755)
    server, before = Prometheus("http://127.0.0.1:9090", tmp_path), held(docker)
    try:
        docker.compose(*files, "up", "--detach", STREAMIL_EXPERIMENT=str(experiment))
        name = {service: docker.compose(*files, "ps", "-q", service) for service in ("kafka", "producer", "consumer", "prometheus")}
        until(lambda: docker.inspect(name["consumer"])["State"]["Health"]["Status"] == "healthy", 120)
        until_prometheus(server)
        until_learned(server, 600)
        started = docker.inspect(name["consumer"])
        assert started["HostConfig"]["ReadonlyRootfs"] and started["HostConfig"]["CapDrop"] == ["ALL"]
        published = {address["HostIp"] for one in name.values() for ports in docker.inspect(one)["NetworkSettings"]["Ports"].values() for address in ports or []}
        assert published == {"127.0.0.1"}

        os.kill(started["State"]["Pid"], signal.SIGKILL)  # as the kernel does when memory is short: the restart policy brings it back
        until(lambda: docker.inspect(name["consumer"])["RestartCount"] == 1 and docker.inspect(name["consumer"])["State"]["Running"], 60)
        until_learning()  # what Prometheus knows may be of the killed process
        until_learned(server, 1600)

        docker("kill", "--signal", "KILL", name["kafka"])
        until(lambda: server.value("streamil_broker_available") == 0, 60)
        docker("start", name["kafka"])
        until(lambda: server.value("streamil_broker_available") == 1, 60)
        until_learned(server, 3000)

        network = next(iter(docker.inspect(name["consumer"])["NetworkSettings"]["Networks"]))
        docker("network", "disconnect", network, name["consumer"])
        until(lambda: server.value('up{job="streamil-consumer"}') == 0, 60)
        assert docker.inspect(name["consumer"])["State"]["Running"]
        time.sleep(5)
        docker("network", "connect", "--alias", "consumer", network, name["consumer"])
        until_learned(server, SAMPLES)

        assert docker.inspect(name["consumer"])["RestartCount"] == 1, "it waited for the network"
        read = {(labels["arm"], labels["member"]): value for labels, value in
                server.query('streamil_prequential_accuracy_ratio{window="cumulative"}')}
        status = until(lambda: fetch_status(CONSUMER), 30)
        assert status["samples"] == SAMPLES and urllib.request.urlopen(f"{CONSUMER}/", timeout=5).status == 200
        until(lambda: not docker.inspect(name["producer"])["State"]["Running"], 60)
        assert docker.inspect(name["producer"])["State"]["ExitCode"] == 0

        began = time.monotonic()
        docker("stop", "--time", 60, name["consumer"])
        assert docker.inspect(name["consumer"])["State"]["ExitCode"] == 0 and time.monotonic() - began < 30, "SIGTERM reaches it"
        killed = result(docker, name["consumer"], tmp_path / "killed")
        docker("run", "--name", "undisturbed", "--network", "none", "--volume", f"{experiment}:/etc/streamil/experiment.yaml:ro", "--volume",
               "/var/lib/streamil", "streamil-consumer:0.1.0", "run", "/etc/streamil/experiment.yaml", "--out", "/var/lib/streamil/results", timeout=300)
        undisturbed = result(docker, "undisturbed", tmp_path / "undisturbed")
        docker("rm", "--volumes", "undisturbed")
        assert killed == undisturbed and killed["samples"] == SAMPLES
        assert read == {(arm, str(place)): member["accuracy"] for arm, found in killed["arms"].items() for place, member in enumerate(found["members"])}
    except BaseException:
        sys.stderr.write(docker.compose(*files, "logs", "--tail", "30"))
        raise
    finally:
        docker.compose(*files, "down", "--volumes", "--timeout", "20")
    assert held(docker) == before


def held(docker: Docker) -> list[list[str]]:
    """Containers, volumes and networks of the daemon."""
    return [sorted(docker(one, "ls", "--quiet", *(["--all"] if one == "container" else [])).split()) for one in ("container", "volume", "network")]


def until_prometheus(server: Prometheus) -> None:
    def answers() -> bool:
        try:
            return server.healthy().get("streamil-consumer") == "up"
        except OSError:
            return False

    until(answers, 60)


def result(docker: Docker, container: str, folder: Path) -> dict[str, Any]:
    """The summary that a container left, running or not."""
    folder.mkdir()
    docker("cp", f"{container}:/var/lib/streamil/results/summary.json", folder)
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_the_file_of_images_is_as_hadolint_wants_it() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "deploy" / "Dockerfile")], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"})
    assert done.returncode == 0 and done.stdout == "", done.stdout
