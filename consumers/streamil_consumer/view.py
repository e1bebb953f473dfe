"""What the consumer shows of itself while it runs."""

from __future__ import annotations

import time
from typing import Any, Protocol

from streamil.pictures import pictures
from streamil.race import Race
from streamil.report.answer import answer
from streamil.results import FEATURES_SHOWN, comparison_rows, standings
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.sparing import paused


class Place(Protocol):
    """Where a process stands on its topics."""

    @property
    def lag(self) -> int:
        """Offsets that are not dealt with yet."""

    @property
    def offset(self) -> int:
        """How far it has come."""

    broker_away: bool


WORKING = ("learning", "judging")
"""States in which a process takes in whatever comes."""


class View:
    """State, place and rate of a consumer, for `/status.json`, `/readyz` and the page; read from other threads."""

    def __init__(self, race: Race, telemetry: RaceMetrics, attachment: Place) -> None:
        self.state = "starting"
        self._race, self._telemetry, self._attachment = race, telemetry, attachment
        self._marks: list[tuple[float, int]] = []
        telemetry.broker_away = lambda: attachment.broker_away
        telemetry.lag, telemetry.offset = (lambda: self.lag), (lambda: attachment.offset)

    @property
    def lag(self) -> int:
        """Offsets on the topic that are not dealt with yet."""
        return self._attachment.lag

    def ready(self) -> bool:
        """Whether it learns whatever comes: it is past its start, not stopped, and the broker answers."""
        return self.state in WORKING and not self._attachment.broker_away

    def learned(self) -> None:
        """Note that something was learned."""
        now = time.time()
        if not self._marks or now - self._marks[-1][0] >= 0.5:
            self._marks = [*self._marks[-10:], (now, self._race.samples)]

    def _rate(self) -> float:
        if self.state not in WORKING or len(self._marks) < 2:
            return 0.0
        (start, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - start) if time.time() - end < 5 else 0.0

    def status(self) -> dict[str, Any]:
        """Return what `/status.json` shows."""
        race = self._race
        with paused(self._telemetry.lock):
            compared, controls = comparison_rows(race), comparison_rows(race, controls=True)
            return {
                "answer": answer(compared, {name: arm.plan.batch_size for name, arm in race.arms.items()}, controls),
                "experiment": race.experiment.name, "topic": race.experiment.topic, "state": self.state,
                "broker_away": self._attachment.broker_away,
                "inputs": race.featurizer.inputs,
                "features": [name[:80] for name in race.featurizer.names[:FEATURES_SHOWN]],
                "samples": race.samples, "samples_per_second": self._rate(), "segment": race.segment,
                "unlabelled": race.unlabelled,
                "offset": self._attachment.offset, "lag": self.lag, "rejected": sum(race.rejected.values()),
                "repeats": self._telemetry.repeats, "snapshot_failures": self._telemetry.snapshot_failures,
                "waiting_for_labels": len(race.late), "arms": standings(race),
                "comparisons": compared, "controls": controls,
            }

    def pictures(self) -> dict[str, Any]:
        """Return what `/pictures.json` shows."""
        with paused(self._telemetry.lock):
            return pictures(self._race)
