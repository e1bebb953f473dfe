"""What metrics cost: one scrape, learning while a Prometheus scrapes every second, learning while many ask without end.

    python benchmarks/telemetry.py            five arms of ten members each, all 50 shown

Who asks is a process of its own. A scrape's cost is processor time of this process while nothing is learned; shares of
a second follow from it. What askers take of learning is measured turn by turn, beside a process that asks and beside
one that sleeps.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import numpy as np
import torch

from streamil.experiment import Experiment
from streamil.race import Race
from streamil.samples import Records
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.server import Server

MEMBERS, ARMS = 10, ("il-prox", "bp-sgd", "bp-adam", "il-sgd", "bp-prox")
TURN_SECONDS = 4.0
ASK = """
import sys, threading, time, urllib.request
url, threads, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def ask():
    while True:
        try:
            urllib.request.urlopen(url + "/metrics", timeout=5).read()
        except OSError:
            pass
        time.sleep(pause)
for _ in range(threads):
    threading.Thread(target=ask, daemon=True).start()
time.sleep(3600)
"""


def race_of_fifty(telemetry: RaceMetrics) -> Race:
    return Race(Experiment.model_validate({
        "name": "fifty", "stream": {"source": {"kind": "mnist"}}, "network": {"hidden": [64, 64]},
        "arms": {name: {"algorithm": name, "seeds": MEMBERS} for name in ARMS}}),
        lock=telemetry.lock, timed=telemetry.timed)


def feed(race: Race, samples: int, luck: np.random.Generator) -> None:
    x = luck.integers(0, 256, (samples, 784), dtype=np.uint8)
    y = [str(label) for label in luck.integers(0, 10, samples)]
    race.feed(Records(y=y, x=x), np.arange(race.samples, race.samples + samples))


def scrape(url: str) -> bytes:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        return answer.read()


def rate(race: Race, luck: np.random.Generator) -> float:
    """Return samples learned a second, over a turn."""
    start, before = time.perf_counter(), race.samples
    while (passed := time.perf_counter() - start) < TURN_SECONDS:
        feed(race, 8, luck)
    return (race.samples - before) / passed


def beside_one_that_asks(race: Race, luck: np.random.Generator, url: str, threads: int, pause: float) -> float:
    """Return the rate beside a process whose threads pause so long between two scrapes."""
    asking = subprocess.Popen([sys.executable, "-c", ASK, url, str(threads), str(pause)])
    try:
        time.sleep(1)  # past its start, and its first scrape
        return rate(race, luck)
    finally:
        asking.kill()
        asking.wait()


def main() -> None:
    torch.set_num_threads(1)  # as a consumer has it
    telemetry, luck = RaceMetrics(), np.random.default_rng(0)
    race = race_of_fifty(telemetry)
    telemetry.watch(race)
    feed(race, 200, luck)
    with closing(Server("127.0.0.1:0", telemetry, dict)) as server:
        times, costs, size = [], [], 0
        for _ in range(40):
            time.sleep(0.6)  # past the time for which an answer is repeated
            cost, start = time.process_time(), time.perf_counter()
            size = len(scrape(server.url))
            times.append(time.perf_counter() - start)
            costs.append(time.process_time() - cost)
        held = []
        for _ in range(40):
            start = time.perf_counter()
            list(telemetry.collect())
            held.append(time.perf_counter() - start)
        print(f"a scrape of {MEMBERS * len(ARMS)} members: {1e3 * statistics.median(times):.1f} ms "
              f"({1e3 * min(times):.1f} to {1e3 * max(times):.1f}), {size / 1e3:.0f} kB; "
              f"{1e3 * statistics.median(costs):.1f} ms of processor, asking included; "
              f"learning waits for {1e3 * statistics.median(held):.1f} ms of it")
        kinds = (("one that scrapes every second", 1, 1.0), ("50 that ask without a pause", 50, 0.0))
        for title, threads, pause in kinds:
            ratios = []
            for _ in range(10):
                alone = beside_one_that_asks(race, luck, server.url, 1, 3600)
                ratios.append(beside_one_that_asks(race, luck, server.url, threads, pause) / alone)
            print(f"learning beside {title}: {statistics.median(ratios):.3f} of its rate alone "
                  f"({min(ratios):.3f} to {max(ratios):.3f}; {alone:.0f} samples a second)")


if __name__ == "__main__":
    main()
