"""Keeps the consumer's snapshots: state and position together, written while learning goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from streamil.errors import ExperimentError, SnapshotError, StateError, TopicMismatch
from streamil.experiment import Experiment
from streamil.race import Race
from streamil.race_state import configuration_hash
from streamil.snapshot import FolderStore, Store, pack
from streamil.telemetry.metrics import RaceMetrics
from streamil_consumer.intake import Intake, Position


class Keeper:
    """Saves a race and its position in the log as one snapshot, and goes on from the newest.

    A consistent copy is taken between two mini-batches; packing and writing happen in a thread of its own, one
    snapshot at a time. A snapshot that cannot be written is counted and told, and learning goes on. A context manager,
    to be left before the store is closed.

    Parameters
    ----------
    race, metrics
        What is saved, and where failures are counted.
    store
        Where snapshots are kept.
    tell
        Takes one line about each event.
    """

    def __init__(self, race: Race, metrics: RaceMetrics, store: Store, tell: Callable[[str], None]) -> None:
        settings = race.experiment.service.snapshots
        assert settings is not None
        self._race, self._metrics, self._store, self._tell = race, metrics, store, tell
        self._every_samples, self._every_seconds = settings.every_samples, settings.every_seconds
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._writing: Future[None] | None = None
        self._saved: tuple[int, Position] | None = None
        self._when = time.monotonic()
        self.topic_id = ""

    def restore(self, *, replan: bool) -> Position | None:
        """Take over the newest snapshot, and return the position that belongs to it; None where there is none.

        Raises
        ------
        SnapshotError
            When there are some, and none is whole.
        StateError
            When it is of another experiment, configuration or plan.
        """
        found = self._store.load()
        if found is None:
            return None
        state, meta = found
        changes = self._race.load_state_dict(state["race"], replan=replan)
        try:
            position = Position(**state["position"])
        except TypeError as error:
            raise StateError(f"position: {error}") from None
        self.topic_id = str(meta["topic_id"])
        self._saved = (self._race.samples, position)
        told = {"starts here": changes.added, "ends here": changes.removed, "another plan": changes.plan}
        for what, names in told.items():
            for name in names:
                self._tell(f"{what}: {name}")
        return position

    def require_topic(self, topic_id: str) -> None:
        """Raise TopicMismatch unless the topic is the one that the snapshot was learned from; remember it."""
        if self.topic_id and self.topic_id != topic_id:
            experiment = self._race.experiment
            raise TopicMismatch(
                f"topic {experiment.topic!r} at {experiment.kafka.bootstrap_servers} was made anew: the snapshot is of "
                f"topic id {self.topic_id}, the topic's is {topic_id}; to start afresh on it name another "
                "service.snapshots.folder")
        self.topic_id = topic_id

    def look(self, intake: Intake) -> None:
        """Save if it is time and the last one is written; to be called between two calls of `feed`."""
        since = self._race.samples - (self._saved[0] if self._saved else 0)
        late = self._every_seconds is not None and time.monotonic() - self._when >= self._every_seconds
        if (since >= self._every_samples or (late and since)) and (self._writing is None or self._writing.done()):
            self._save(intake)

    def finish(self, intake: Intake) -> None:
        """Save what is not saved yet, and wait until it is written."""
        if self._writing is not None:
            self._writing.result()
        if self._saved != (self._race.samples, intake.position):
            self._save(intake).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._writer.shutdown(wait=True)

    def _save(self, intake: Intake) -> Future[None]:
        position, samples, race = intake.position, self._race.samples, self._race
        state = {"race": race.state_dict(), "position": position._asdict()}
        meta = {"experiment": race.experiment.name, "topic": race.experiment.topic, "topic_id": self.topic_id,
                "offset": position.offset, "samples": samples, "learned_hash": race.learned_hash.hex(),
                "configuration": configuration_hash(race.configuration())}
        self._saved, self._when = (samples, position), time.monotonic()
        self._writing = self._writer.submit(self._write, state, meta)
        return self._writing

    def _write(self, state: dict[str, Any], meta: dict[str, Any]) -> None:
        begin = time.perf_counter()
        try:
            self._store.save(pack(state, meta))
        except SnapshotError as error:
            self._metrics.snapshot_failures += 1
            self._tell(f"snapshot failed, learning goes on: {error}")
        else:
            self._metrics.snapshot_written(time.perf_counter() - begin)


def open_store(experiment: Experiment, race: Race, tell: Callable[[str], None]) -> FolderStore:
    """Return the folder of the experiment's snapshots, locked for this process.

    Raises
    ------
    ExperimentError
        When an arm cannot be saved.
    SnapshotError
        When the folder cannot be used, or another process has it.
    """
    settings = experiment.service.snapshots
    assert settings is not None
    reasons = race.unsavable()
    if reasons:
        raise ExperimentError("service.snapshots: " + "; ".join(reasons))
    return FolderStore(experiment.folder / settings.folder, settings.keep, tell)
