"""Keeps snapshots of a race and its place in the log, written while learning goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, Self

from streamil.attachment.position import Position
from streamil.errors import BrokerError, ReportError, SnapshotError, StateError
from streamil.experiment.race import Snapshots
from streamil.log import Event, Tell
from streamil.race import Race
from streamil.race_state import Changes, configuration_hash
from streamil.snapshot import Store, pack
from streamil.state_entries import entries, part
from streamil.telemetry.metrics import RaceMetrics

Places = tuple[Position, ...]
"""Where each topic is read."""
Check = Callable[[], None]
"""Raises BrokerError when the topic is no longer the one that was read."""
Later = Callable[[], None]
"""What is written beside a snapshot, after it."""


class Stateful(Protocol):
    """Anything whose state belongs into a snapshot."""

    def state_dict(self) -> dict[str, Any]:
        """Return copies of its state, as nested plain data."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it over, or raise ValueError."""


class Keeper:
    """Saves a race, its position in the log and what belongs to it as one snapshot, and goes on from the newest.

    A consistent copy is taken between two mini-batches; packing and writing happen in a thread of its own, one
    snapshot at a time. A snapshot that cannot be written is counted and told, and learning goes on, unless
    `Snapshots.fail_after` says otherwise. A context manager, to be left before the store is closed.

    Parameters
    ----------
    race, metrics
        What is saved, and where failures are counted.
    parts
        What else belongs into it, by name.
    settings
        When one is due.
    store
        Where snapshots are kept.
    tell
        Takes one line about each event.
    places
        Returns where each topic is read: when that has moved, there is something to save.
    meta
        Returns what a snapshot says of itself beside the race: topic, topic_id, partition, offset.
    check
        Called before a snapshot is written.
    beside
        Called with each copy; what it returns is called once the snapshot is written.

    Attributes
    ----------
    committed
        Places of the newest snapshot that is written; None before the first one.
    changes
        What differed between the snapshot that was loaded and this experiment; None where none was loaded.
    """

    def __init__(self, race: Race, metrics: RaceMetrics, parts: Mapping[str, Stateful], settings: Snapshots,
                 store: Store, tell: Tell, *, places: Callable[[], Places], meta: Callable[[], dict[str, str | int]],
                 check: Check = lambda: None,
                 beside: Callable[[], Later] = lambda: lambda: None) -> None:
        self._race, self._metrics, self._parts, self._settings = race, metrics, parts, settings
        self._store, self._tell, self._places, self._meta = store, tell, places, meta
        self._check, self._beside = check, beside
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._writing: Future[None] | None = None
        self._saved: tuple[int, Places] | None = None
        self._when = time.monotonic()
        self._failed = 0
        self._failure: BrokerError | SnapshotError | None = None
        self.committed: Places | None = None
        self.changes: Changes | None = None

    def restore(self, *, replan: bool) -> bool:
        """Take over the newest snapshot, and return whether there is one.

        Raises
        ------
        SnapshotError
            When there are some, and none is whole.
        StateError
            When it is of another experiment, configuration, plan or partition.
        """
        found = self._store.load()
        if found is None:
            return False
        state, meta = found
        with part("snapshot"):
            entries(state, ("race", *self._parts))
            if meta["partition"] != (own := self._meta()["partition"]):
                raise StateError(f"the snapshot is of partition {meta['partition']}, not {own}: name another "
                                 "service.snapshots.folder")
        self.changes = self._race.load_state_dict(state["race"], replan=replan)
        for name, one in self._parts.items():
            with part(name):
                one.load_state_dict(state[name])
        self._saved = (self._taken_in, self._places())
        told = {"starts here": self.changes.added, "ends here": self.changes.removed, "another plan": self.changes.plan}
        for what, names in told.items():
            for name in names:
                self._tell(Event(f"{what}: {name}", level="warning" if names is self.changes.plan else "info"))
        return True

    def look(self, *, now: bool = False) -> bool:
        """Save if one is due, or `now`, and the last one is written; to be called between two mini-batches.

        Returns
        -------
        bool
            Whether one was begun.

        Raises
        ------
        SnapshotError
            When more of them failed in a row than `fail_after` allows.
        BrokerError
            When the topic is no longer the one that was read: that snapshot was not written.
        """
        if self._failure is not None:
            raise self._failure
        since = self._taken_in - (self._saved[0] if self._saved else 0)
        seconds = self._settings.every_seconds
        late = seconds is not None and time.monotonic() - self._when >= seconds
        due = now or since >= self._settings.every_samples or (late and self._changed())
        if due and (self._writing is None or self._writing.done()):
            self._save()
            return True
        return False

    def finish(self) -> None:
        """Save what is not saved yet, wait until it is written, and raise what `look` would."""
        if self._writing is not None:
            self._writing.result()
        if self._failure is None and (self._failed or self._changed()):
            self._save().result()
        if self._failure is not None:
            raise self._failure

    @property
    def _taken_in(self) -> int:
        """Samples taken in, and once more those whose label came late."""
        return self._race.samples + self._race.late.counts["joined"]

    def _changed(self) -> bool:
        return self._saved != (self._taken_in, self._places())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._writer.shutdown(wait=True)

    def _save(self) -> Future[None]:
        race, places = self._race, self._places()
        state = {"race": race.state_dict(), **{name: one.state_dict() for name, one in self._parts.items()}}
        meta = {"experiment": race.experiment.name, **self._meta(), "samples": race.samples,
                "learned_hash": race.learned_hash.hex(), "configuration": configuration_hash(race.configuration())}
        self._saved, self._when = (self._taken_in, places), time.monotonic()
        self._writing = self._writer.submit(self._write, state, meta, places, self._beside())
        return self._writing

    def _write(self, state: dict[str, Any], meta: dict[str, Any], places: Places, beside: Later) -> None:
        begin = time.perf_counter()
        try:
            self._check()
        except BrokerError as error:
            self._failure = error
            return
        try:
            self._store.save(pack(state, meta))
            beside()
        except (SnapshotError, ReportError, OSError) as error:
            self._failed += 1
            self._metrics.snapshot_failures += 1
            self._tell(Event(f"snapshot failed, learning goes on: {error}", level="error", failures=self._failed))
            if self._settings.fail_after is not None and self._failed >= self._settings.fail_after:
                self._failure = SnapshotError(f"{error}; {self._failed} snapshots failed in a row "
                                              "(service.snapshots.fail_after)")
        else:
            self._failed, self.committed = 0, places
            self._metrics.snapshot_written(time.perf_counter() - begin)
