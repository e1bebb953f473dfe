"""What the live page of a long race costs: bytes that it loads, and work in a real Chromium (Debian's package).

    python benchmarks/page.py                 ten arms, 1,000,000 samples of simulated outcomes

The arms' outcomes are simulated, since a race of a million samples takes hours; figures, curves, comparisons, server,
page and browser are the real ones.
"""

from __future__ import annotations

import argparse
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
from streamil_consumer.view import View

from streamil.experiment import Experiment
from streamil.race import Race
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.server import Server

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser import browser

PIECE = 1000
SEGMENT = 100_000
ARMS = {"il-kfac": "il-kfac", "il-prox": "il-prox", "bp-kfac": "bp-kfac", "bp-adam": "bp-adam", "bp-sgd": "bp-sgd"}


class Place:
    """Where a consumer would stand."""

    lag = 0
    offset = 0
    broker_away = False


def simulated(samples: int, telemetry: RaceMetrics) -> Race:
    """Return a race whose ten arms were right at random, each more often as it goes on."""
    race = Race(Experiment.model_validate({
        "name": "a-million-samples", "stream": {"source": {"kind": "mnist"}}, "network": {"hidden": [4]},
        "arms": {name: {"algorithm": rule, "batch_size": [1, 8]} for name, rule in ARMS.items()}}), lock=telemetry.lock)
    luck = np.random.default_rng(1)
    skill = dict(zip(race.arms, luck.uniform(0.85, 0.97, len(race.arms)), strict=True))
    for first in range(0, samples, PIECE):
        y = luck.integers(0, 10, PIECE)
        segment = np.full(PIECE, first // SEGMENT)
        for name, arm in race.arms.items():
            chance = skill[name] * (1 - np.exp(-(first % SEGMENT + 1000) / 5000))
            right = luck.random((1, PIECE)) < chance
            said = np.where(right, y, (y + 1) % 10)
            race.comparisons.tell(name, arm.score(said, y, np.ones((1, PIECE)), segment), segment, first)
        race.samples += PIECE
    race.segment = samples // SEGMENT
    return race


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--samples", type=int, default=1_000_000)
    options.add_argument("--picture", type=Path, help="keep a screenshot of the page")
    asked = options.parse_args()
    telemetry = RaceMetrics()
    start = time.perf_counter()
    race = simulated(asked.samples, telemetry)
    print(f"{race.samples:,} samples, {len(race.arms)} arms, {len(race.comparisons)} comparisons simulated in "
          f"{time.perf_counter() - start:.0f} s")
    telemetry.watch(race)
    view = View(race, telemetry, Place())
    view.state = "learning"
    with closing(Server("127.0.0.1:0", telemetry, view.status, view.ready, view.pictures)) as server:
        for path in ("/pictures.json", "/status.json"):
            begin = time.perf_counter()
            body = urllib.request.urlopen(server.url + path).read()
            print(f"{path}: {len(body):,} bytes in {time.perf_counter() - begin:.3f} s")
        with browser() as page:
            page.look()
            page.open(server.url)
            page.until("document.body.dataset.drawn")
            first = page.work()
            print(f"first sight: {sum(first.values()):.2f} s of work ({told(first)}), "
                  f"charts drawn in {page.ask('document.body.dataset.drawn')} ms")
            before = page.work()
            for _ in range(5):
                race.samples += 1
                page.ask("delete document.body.dataset.drawn")
                page.until("document.body.dataset.drawn")
            after = page.work()
            each = (sum(after.values()) - sum(before.values())) / 5
            drawn = page.ask("document.body.dataset.drawn")
            print(f"each renewal after: {each:.2f} s of work, the last drawn in {drawn} ms")
            if asked.picture:
                page.picture(asked.picture)


def told(work: dict[str, float]) -> str:
    return ", ".join(f"{kind} {seconds:.2f}" for kind, seconds in work.items())


if __name__ == "__main__":
    main()
