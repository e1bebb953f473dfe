"""A disk that fills, or may not be written to, under a consumer that learns: told, counted, lived through."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from attached import experiment_of, learn, records_of, send

from streamil.attachment import Attachment
from streamil.direct import run
from streamil.errors import SnapshotError
from streamil.experiment import Kafka
from streamil.race import Race
from streamil.telemetry.metrics import RaceMetrics

UNSHARED = ("unshare", "--user", "--map-root-user", "--mount")
pytestmark = pytest.mark.kafka

LEARNING = """
import subprocess, sys
from pathlib import Path
from attached import experiment_of
from streamil.attachment import Attachment
from streamil.direct import run
from streamil.experiment import Kafka
from streamil.race import Race
from streamil.results import summary
from streamil.telemetry.metrics import RaceMetrics

folder, disk = Path(sys.argv[1]), Path(sys.argv[1]) / "snapshots"
disk.mkdir()
system = lambda *words: subprocess.run(list(map(str, words)), check=True)
system("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", disk)
experiment = experiment_of(Kafka(bootstrap_servers=sys.argv[2]), sys.argv[3], folder)
race, metrics, told = Race(experiment), RaceMetrics(), []
with Attachment(race, until=400, metrics=metrics, tell=told.append) as attachment:
    for arrived in attachment:
        before = race.samples
        arrived.feed(race)
        if before < 200 <= race.samples:
            assert metrics.snapshot_failures == 0, told
            attachment._keeper._writing.result()
            FAILS
        attachment.commit()
        if attachment._keeper._writing is not None:
            attachment._keeper._writing.result()
        if before < 300 <= race.samples:
            assert metrics.snapshot_failures > 0
            assert any("snapshot failed, learning goes on" in line and WORDS in line for line in told), told
            assert not list(disk.glob(".*.tmp")), "no temporary file is left"
            MENDS
            failed = metrics.snapshot_failures
assert metrics.snapshot_failures == failed, told
assert summary(race) == run(experiment)
print("done", max(disk.glob("*.snapshot")).name)
"""


def has_small_disks() -> bool:
    return shutil.which("unshare") is not None and subprocess.run(
        [*UNSHARED, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_small_disks(), reason="this machine lets nobody mount a small disk")
@pytest.mark.parametrize(("fails", "mends", "words"), [
    ("filler = disk / 'filler'; system('sh', '-c', f'head -c 2M /dev/zero > {filler}; true')", "filler.unlink()",
     "No space left on device"),
    ("system('mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', disk)", "system('umount', disk)", "Read-only file system"),
], ids=["full", "read-only"])
def test_learning_goes_on_and_the_next_snapshot_succeeds(
        kafka_settings: Kafka, topic: str, tmp_path: Path, fails: str, mends: str, words: str) -> None:
    send(kafka_settings, topic, records_of(experiment_of(kafka_settings, topic, tmp_path)))
    script = textwrap.dedent(LEARNING).replace("FAILS", fails).replace("MENDS", mends).replace("WORDS", repr(words))
    done = subprocess.run(
        [*UNSHARED, sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}", str(tmp_path),
         kafka_settings.bootstrap_servers, topic], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("done"), done.stderr


def test_those_who_prefer_it_are_ended_after_so_many_failures(
        kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, snapshots={"fail_after": 2})
    send(kafka_settings, topic, records_of(experiment))
    race, metrics = Race(experiment), RaceMetrics()
    with pytest.raises(SnapshotError, match=r"2 snapshots failed in a row \(service.snapshots.fail_after\)"), \
            Attachment(race, until=400, metrics=metrics) as attachment:
        for arrived in attachment:
            arrived.feed(race)
            if race.samples >= 100:
                shutil.rmtree(tmp_path / "snapshots", ignore_errors=True)
            attachment.commit()
            if attachment._keeper._writing is not None:
                attachment._keeper._writing.result()
    assert metrics.snapshot_failures == 2 and race.samples < 400
    assert learn(experiment, 400) == run(experiment)
