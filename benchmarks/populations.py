"""What a population costs beside one member of it, in plain torch: both take the same mini-batches, turn about.

    python benchmarks/populations.py [--threads 2]

784-256-256-10, mini-batches of 8, samples of MNIST's width; the median ratio of seven turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from streamil.learners import Population, create
from streamil.racing_arm import without_denormals

LAYERS, BATCH_SIZE, TURNS = [784, 256, 256, 10], 8, 7
RACES: list[tuple[str, int, float, int, list[dict[str, Any]]]] = [  # rule, updates a turn, limit, members
    ("il-prox", 30, 16.0, 32, [{"alpha": 5.0 * 0.9**place, "inference_steps": 12} for place in range(32)]),
    ("il-kfac", 8, 5.0, 8, [{"alpha": 5e-4 * 0.9**place} for place in range(8)]),
]


def seconds(population: Population, x: torch.Tensor, y: torch.Tensor) -> float:
    begin = time.perf_counter()
    population.learn(x, y)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    torch.set_num_threads(parser.parse_args().threads)
    random = torch.Generator().manual_seed(0)
    for rule, updates, limit, size, members in RACES:
        samples = updates * BATCH_SIZE
        x = torch.rand(samples, LAYERS[0], generator=random)
        y = torch.randint(0, LAYERS[-1], (samples,), generator=random)
        one, all_of_them = (create(rule, LAYERS, list(own), batch_size=BATCH_SIZE, kernels="none")
                            for own in (members[:1], members))
        with without_denormals():
            for population in (one, all_of_them):  # il-kfac renews its metric at every sample at first
                population.learn(x, y)
            turns = [(seconds(one, x, y), seconds(all_of_them, x, y)) for _ in range(TURNS)]
        ratios = [wide / narrow for narrow, wide in turns]
        first, second = (statistics.median(times) / updates * 1e3 for times in zip(*turns, strict=True))
        print(f"{rule}: {size} members {second:.2f} ms, one {first:.2f} ms an update; "
              f"{statistics.median(ratios):.1f} times ({min(ratios):.1f} to {max(ratios):.1f}; limit {limit:g})")


if __name__ == "__main__":
    main()
