"""What bounds the CPU's kernels: memory that backpropagation has to touch; what a second core brings members and arms.

    python benchmarks/kernels.py

784-256-256-10 at mini-batches of one, MNIST, records of 64; who is compared takes turns, medians of the turns' ratios.
What an update costs beside torch's own: `streamil bench`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit

from streamil.bench.learners import digits
from streamil.experiment import Experiment
from streamil.learners import create
from streamil.learners.population import count_parameters
from streamil.race import Race
from streamil.racing_arm import without_denormals
from streamil.samples import Records

LAYERS, RECORDS, TURNS = [784, 256, 256, 10], 8, 15


@njit
def touch(arrays: Any) -> None:
    """Read and write every number once."""
    for array in arrays:
        for place in range(array.size):
            array[place] += np.float32(1)


@njit(fastmath=True)
def read(array: Any) -> Any:
    """Read every number once."""
    total = np.float32(0)
    for place in range(array.size):
        total += array[place]
    return total


def microseconds(call: Callable[[], object], updates: int) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) / updates * 1e6


def against(ours: Callable[[], object], other: Callable[[], object], updates: int) -> str:
    """Return what both take an update, and the ratio of the second to the first, turn about."""
    ours(), other()
    turns = [(microseconds(ours, updates), microseconds(other, updates)) for _ in range(TURNS)]
    first, second = (statistics.median(times) for times in zip(*turns, strict=True))
    ratios = [theirs / own for own, theirs in turns]
    return (f"{first:.1f} us beside {second:.1f} us an update: {statistics.median(ratios):.2f} times "
            f"({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    torch.set_num_threads(1)
    records = digits(1, "cpu")[:RECORDS]
    updates = sum(len(y) for _, y in records)

    def learner(rule: str, members: list[dict[str, Any]], threads: int = 1) -> Callable[[], None]:
        population = create(rule, LAYERS, members)

        def learn() -> None:
            torch.set_num_threads(threads)
            for x, y in records:
                population.learn(x, y)

        return learn

    def racers(rules: list[str], threads: int) -> Callable[[], None]:
        race = Race(Experiment.model_validate({
            "stream": {"source": {"kind": "mnist"}}, "arms": {rule: {"algorithm": rule} for rule in rules},
            "network": {"hidden": LAYERS[1:-1]}, "service": {"threads": threads, "snapshots": None}}))
        given = [Records(y=[str(label) for label in y.tolist()], x=x.numpy()) for x, y in records]

        def learn() -> None:
            torch.set_num_threads(threads)
            for one in given:
                race.feed(one, np.arange(race.samples, race.samples + len(one)))

        return learn

    weights = [torch.zeros(count_parameters(LAYERS)).numpy() for _ in range(3)]

    def sgd() -> None:  # all weights forward, all backward, and all changed
        for _ in range(updates):
            read(weights[0]), read(weights[0]), touch((weights[0],))

    def adam() -> None:  # weights and both means changed; forward and backward are not even counted
        for _ in range(updates):
            touch(tuple(weights))

    with without_denormals():
        print("memory's part of a dense update over bp-sgd's kernel:", against(learner("bp-sgd", [{}]), sgd, updates))
        print("memory's part of an Adam update over bp-adam's kernel:",
              against(learner("bp-adam", [{}]), adam, updates))
        for rule in ("il-prox", "bp-sgd", "bp-adam"):
            members = [{"seed": seed} for seed in range(32)]
            print(f"{rule}, 32 members, two threads, over one thread:",
                  against(learner(rule, members, 2), learner(rule, members), 32 * updates))
        for rules in (["il-prox", "bp-adam"], ["il-kfac", "bp-kfac"]):
            print(f"a race of {' and '.join(rules)}, two threads, over one thread:",
                  against(racers(rules, 2), racers(rules, 1), len(rules) * updates))


if __name__ == "__main__":
    main()
