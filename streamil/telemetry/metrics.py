"""Prometheus metrics, read from a race when they are scraped: learning pays nothing for them in between."""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from streamil.codec import REASONS
from streamil.late_labels import WHAT_BECAME
from streamil.race import Race
from streamil.racing_arm import RacingArm
from streamil.telemetry.alignment import alignment
from streamil.telemetry.sparing import paused

MEMBERS_SHOWN = 20
"""A larger population exports its best, median and worst member by rank."""
VERDICTS = {"challenger leads": 1, "open": 0, "baseline leads": -1}
UPDATE_SECONDS = tuple(float(f"{mantissa}e{exponent}") for exponent in range(-5, 0) for mantissa in (1, 2.5, 5))
LATENCY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
YEAR_2000 = 946_684_800
DAY = 86_400


@cache
def _versions() -> dict[str, str]:
    return {"version": version("streamil"), "python": platform.python_version(), "torch": version("torch")}


class Histogram:
    """Counts of seconds in fixed buckets.

    `prometheus_client`'s own histogram is not used: it holds one lock per bucket and changes its store when
    PROMETHEUS_MULTIPROC_DIR is set for some other service.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = np.zeros(len(bounds) + 1, np.int64)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count `times` observations of `seconds`."""
        self.counts[np.searchsorted(self.bounds, seconds)] += times
        self.sum += seconds * times

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper bound, as Prometheus wants them."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, np.cumsum(self.counts).astype(float).tolist(), strict=True))


class RaceMetrics(Collector):
    """What a consumer tells about its race (`streamil_*`, base units).

    Attributes
    ----------
    keeps_snapshots
        Whether the process writes any: an absent time of the last one asks for no alarm.
    race
        What to show, read under `lock`; None before there is one.
    lock
        The lock that the race holds while it changes.
    """

    def __init__(self, *, keeps_snapshots: bool = False) -> None:
        self.keeps_snapshots = keeps_snapshots
        self.race: Race | None = None
        self.lock = threading.Lock()
        self.updates: dict[str, Histogram] = {}
        self.seconds_to: dict[str, NDArray[np.float64]] = {}
        self.latency = Histogram(LATENCY_SECONDS)
        self.latency_skipped = 0
        self.repeats = 0
        self._rejected_before: dict[str, int] = {}
        self._late_before: dict[str, int] = {}
        self._scored_before: dict[str, Scored] = {}
        self.snapshot_failures = 0
        self.snapshots = Histogram(UPDATE_SECONDS)
        self.snapshot_last = 0.0
        self.broker_away: Callable[[], bool] = lambda: False
        self.lag: Callable[[], int] = lambda: 0
        self.offset: Callable[[], int] = lambda: 0

    @contextmanager
    def timed(self, arm: str, updates: int) -> Iterator[None]:
        """Time `updates` updates of an arm, made in one call."""
        start = time.perf_counter()
        yield
        self.updates[arm].observe((time.perf_counter() - start) / updates, updates)
        if self.race is not None:  # thresholds that this call has reached
            reached, seconds = self.race.arms[arm].speed.reached, self.seconds_to[arm]
            seconds[(reached > 0) & np.isnan(seconds)] = self.updates[arm].sum

    def watch(self, race: Race) -> None:
        """Show this race from now on; its counters start at 0 here, whatever it has learned in earlier processes."""
        self._rejected_before, self._late_before = dict(race.rejected), dict(race.late.counts)
        self._scored_before = {
            name: Scored(arm.figures.samples, arm.figures.correct.copy(), arm.drift.notices)
            for name, arm in race.arms.items()}
        self.updates = {name: Histogram(UPDATE_SECONDS) for name in race.arms}
        # what was reached in an earlier process is infinitely long ago, and not shown
        self.seconds_to = {name: np.where(arm.speed.reached > 0, np.inf, np.nan) for name, arm in race.arms.items()}
        self.race = race

    def snapshot_written(self, seconds: float) -> None:
        """Note a snapshot that was packed and written."""
        self.snapshots.observe(seconds)
        self.snapshot_last = time.time()

    def observe_latency(self, sent: float, now: float, samples: int) -> None:
        """Count the time from a record's own time to its learning, unless that time cannot be true."""
        if YEAR_2000 <= sent <= now + DAY:
            self.latency.observe(max(0.0, now - sent), samples)
        else:
            self.latency_skipped += samples

    def collect(self) -> Iterable[Metric]:
        """Yield every metric; called once per scrape. Raise `Busy` where learning does not pause for it."""
        yield InfoMetricFamily("streamil_build", "Versions.", _versions())
        rejected = _since(self.race.rejected if self.race else dict.fromkeys(REASONS, 0), self._rejected_before)
        yield counters("streamil_records_rejected", "Records and samples rejected.", "reason", rejected)
        yield CounterMetricFamily("streamil_repeats", "Samples that came again and were skipped.", self.repeats)
        late = _since(dict.fromkeys(WHAT_BECAME, 0) if self.race is None else self.race.late.counts, self._late_before)
        yield counters("streamil_late_labels", "Late labels and samples that waited, by what became of them.", "result",
                       late)
        yield GaugeMetricFamily("streamil_waiting_samples", "Samples that wait for their label.",
                                0 if self.race is None else len(self.race.late))
        yield CounterMetricFamily("streamil_latency_skipped", "Samples whose record time cannot be true.",
                                  self.latency_skipped)
        yield CounterMetricFamily("streamil_snapshot_failures", "Snapshots that could not be written.",
                                  self.snapshot_failures)
        last = GaugeMetricFamily("streamil_snapshot_last_success_timestamp_seconds",
                                 "When the last snapshot was written; 0: none since the start.")
        if self.keeps_snapshots:
            last.add_metric([], self.snapshot_last)
        yield last
        yield HistogramMetricFamily("streamil_snapshot_duration_seconds", "Time to pack and write a snapshot.",
                                    self.snapshots.buckets(), self.snapshots.sum)
        yield HistogramMetricFamily("streamil_end_to_end_latency_seconds", "From a record's time to its learning.",
                                    self.latency.buckets(), self.latency.sum)
        yield GaugeMetricFamily("streamil_broker_available", "Whether the broker answered when it was asked last.",
                                float(not self.broker_away()))
        for name, text, value in (("consumer_lag_records", "Records on the topic not yet read.", self.lag()),
                                  ("consumer_offset", "Offset of the next record to read.", self.offset())):
            yield GaugeMetricFamily(f"streamil_{name}", text, value)
        if self.race is not None:
            with paused(self.lock):
                yield from list(_race(self.race, self._scored_before, self.seconds_to))
        family = HistogramMetricFamily(
            "streamil_update_duration_seconds", "Time of one update (mini-batch) of an arm.", labels=["arm"])
        for arm, histogram in self.updates.items():
            family.add_metric([arm], histogram.buckets(), histogram.sum)
        yield family


class Scored(NamedTuple):
    """What an arm had when the process began: samples scored, right answers of each member [A], changes noticed."""

    samples: int
    correct: NDArray[np.int64]
    notices: int


def _since(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {key: value - before.get(key, 0) for key, value in now.items()}


def _race(race: Race, before: Mapping[str, Scored], seconds_to: Mapping[str, NDArray[np.float64]]) -> Iterator[Metric]:
    experiment = race.experiment.name
    base = {"experiment": experiment}
    yield gauge("streamil_learned_samples", "Samples taken in.", [(base, race.samples)])
    yield gauge("streamil_segment", "True segment of the newest sample.", [(base, race.segment)])
    info = Metric("streamil_arm", "Hyperparameters of each member.", "info")
    families: dict[str, Any] = {
        "samples": CounterMetricFamily("streamil_samples", "Samples predicted and scored.", labels=_MEMBER),
        "correct": CounterMetricFamily("streamil_correct", "Samples predicted right.", labels=_MEMBER),
        "updates": CounterMetricFamily("streamil_updates", "Updates (mini-batches learned).", labels=_MEMBER),
        "accuracy": GaugeMetricFamily("streamil_prequential_accuracy_ratio", "Test-then-train accuracy.",
                                      labels=[*_MEMBER, "window"]),
        "kappa": GaugeMetricFamily("streamil_prequential_kappa", "Accuracy beyond chance, no-change or majority.",
                                   labels=[*_MEMBER, "kind"]),
        "loss": GaugeMetricFamily("streamil_loss", "Mean log-loss (cross-entropy before each update), in nats.",
                                  labels=_MEMBER),
        "energy": GaugeMetricFamily(
            "streamil_energy", "What inference left in the last mini-batch: half the squared errors of all layers.",
            labels=_MEMBER),
        "area": GaugeMetricFamily("streamil_area_under_curve_ratio", "Mean over samples of the windowed accuracy.",
                                  labels=_MEMBER),
        "macro_f1": GaugeMetricFamily("streamil_macro_f1_ratio", "Mean F1 over the classes.", labels=_MEMBER),
        "reached": GaugeMetricFamily("streamil_samples_to_threshold", "Samples until the windowed accuracy was there.",
                                     labels=[*_MEMBER, "threshold"]),
        "seconds": GaugeMetricFamily("streamil_seconds_to_threshold", "Seconds of learning until it was there.",
                                     labels=[*_MEMBER, "threshold"]),
        "drift": CounterMetricFamily("streamil_drift_events", "Changes noticed in the arm's errors.",
                                     labels=["experiment", "arm", "detector"]),
        "diverged": GaugeMetricFamily("streamil_diverged_members", "Members frozen because an update was not finite.",
                                      labels=["experiment", "arm"]),
        "since": GaugeMetricFamily("streamil_arm_since_samples", "Labelled samples before the arm joined the race.",
                                   labels=["experiment", "arm"]),
    }
    for name, arm in race.arms.items():
        shown = Shown(arm, before[name])
        for label, member in _members_shown(arm):
            _member(families, info, arm, [experiment, name, label], member, shown)
            for threshold, needed, seconds in zip(
                    arm.speed.thresholds, arm.speed.reached[member], seconds_to[name][member], strict=True):
                place = [experiment, name, label, f"{threshold:g}"]
                if needed:  # one that is not reached is absent
                    families["reached"].add_metric(place, int(needed))
                _add_finite(families["seconds"], place, seconds)
        diverged = float(arm.population.diverged.sum()) if arm.population else 0.0
        families["diverged"].add_metric([experiment, name], diverged)
        families["since"].add_metric([experiment, name], arm.since)
        families["drift"].add_metric([experiment, name, "adwin"], arm.drift.notices - before[name].notices)
    yield info
    yield from families.values()
    yield from _comparisons(race)
    yield from alignment(race)


_MEMBER = ["experiment", "arm", "member"]


def _members_shown(arm: RacingArm) -> list[tuple[str, int]]:
    count = len(arm.plan.members)
    if count <= MEMBERS_SHOWN:
        return [(str(member), member) for member in range(count)]
    order = np.argsort(-arm.figures.correct, kind="stable")
    return [("best", int(order[0])), ("median", int(order[count // 2])), ("worst", int(order[-1]))]


class Shown:
    """The figures of an arm's members, each a list of all of them, made once for a scrape."""

    def __init__(self, arm: RacingArm, before: Scored) -> None:
        figures, population = arm.figures, arm.population
        self.samples = figures.samples - before.samples
        self.updates = self.samples // arm.plan.batch_size
        self.correct = (figures.correct - before.correct).tolist()
        self.accuracy = {name: getattr(figures, name).tolist() for name in ("cumulative", "windowed", "fading")}
        self.kappa = {"cohen": figures.kappa.tolist(), "temporal": figures.kappa_temporal.tolist(),
                      "majority": figures.kappa_majority.tolist()}
        energy = population.energy if population else None
        self.gauges = {"loss": figures.log_loss.tolist(), "macro_f1": figures.macro_f1.tolist(),
                       "area": arm.speed.area.tolist(),
                       "energy": [np.nan] * len(arm.plan.members) if energy is None else energy.tolist()}
        self.hyperparameters = ([one.model_dump() for one in population.members] if population
                                else list(arm.plan.members))


def _member(families: Mapping[str, Any], info: Metric, arm: RacingArm, labels: list[str], member: int,
            shown: Shown) -> None:
    families["samples"].add_metric(labels, shown.samples)
    families["correct"].add_metric(labels, shown.correct[member])
    families["updates"].add_metric(labels, shown.updates)
    for family, values in (("accuracy", shown.accuracy), ("kappa", shown.kappa)):
        for kind, found in values.items():
            _add_finite(families[family], [*labels, kind], found[member])
    for family, found in shown.gauges.items():
        _add_finite(families[family], labels, found[member])
    info.add_sample("streamil_arm_info", {
        **{key: str(value) for key, value in shown.hyperparameters[member].items() if value is not None},
        **dict(zip(_MEMBER, labels, strict=True)), "algorithm": arm.plan.algorithm,
        "batch_size": str(arm.plan.batch_size), "seed": str(arm.plan.members[member]["seed"])}, 1)


def _comparisons(race: Race) -> Iterator[Metric]:
    labels = ["experiment", "challenger", "baseline", "scope"]
    advantage = GaugeMetricFamily("streamil_advantage_ratio", "Mean difference of accuracy, with its bounds.",
                                  labels=[*labels, "bound"])
    evidence = GaugeMetricFamily(
        "streamil_advantage_log_e", "Log of the e-value of the discordant pairs.", labels=labels)
    verdict = GaugeMetricFamily(
        "streamil_verdict", "1 challenger leads, 0 open, -1 baseline leads.", labels=labels)
    for (challenger, baseline), comparison in race.comparisons.items():
        for scope, found in (("stream", comparison.summary()), ("segment", comparison.since_segment())):
            place = [race.experiment.name, challenger, baseline, scope]
            for bound, key in (("mean", "mean_difference"), ("lower", "lower"), ("upper", "upper")):
                _add_finite(advantage, [*place, bound], found[key])
            _add_finite(evidence, place, found["log_e"])
            verdict.add_metric(place, VERDICTS[found["verdict"]])
    yield from (advantage, evidence, verdict)


def _add_finite(family: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    """Add the value; one that is undefined is absent, as Prometheus has it."""
    if value is not None and math.isfinite(value):
        family.add_metric(labels, float(value))


def counters(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    """Return a labelled counter with every series it can have, also those still at 0."""
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def gauge(name: str, text: str, values: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    """Return a gauge with the given labels and values."""
    metric = Metric(name, text, "gauge")
    for labels, value in values:
        metric.add_sample(name, dict(labels), value)
    return metric
