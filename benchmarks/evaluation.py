"""How often a verdict is wrong, how soon it comes, and what the figures cost.

python benchmarks/evaluation.py false-leads [--streams 2000]   # watched after every sample, no difference there
python benchmarks/evaluation.py decisions [--streams 1000]     # samples to a verdict over those of a fixed-size test
python benchmarks/evaluation.py rate                           # pairs a second, in blocks of 1,000
python benchmarks/evaluation.py cost                           # of 32 members' figures, beside their learning
python benchmarks/evaluation.py implicit                       # how near the diagnostics' reference is to the optimum
python benchmarks/evaluation.py judge                          # prediction rows a second
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

from streamil.codec.prediction_rows import decode_predictions
from streamil.diagnostics import _Reference
from streamil.evaluation import PairedTest
from streamil.evaluation.boundary import boundary
from streamil.experiment import Experiment
from streamil.judge import Judge
from streamil.learners.implicit_sgd import ImplicitSGD, ImplicitSGDHyperparameters
from streamil.race import Race

ALPHA = 0.05
SAMPLES = 5_000
Random = np.random.Generator
Outcomes = NDArray[np.bool_]


def independent(luck: Random, streams: int, count: int) -> tuple[Outcomes, Outcomes]:
    """Both right four times in five, each for itself."""
    return luck.random((streams, count)) < 0.8, luck.random((streams, count)) < 0.8


def drifting(luck: Random, streams: int, count: int) -> tuple[Outcomes, Outcomes]:
    """Both get better, then worse at an abrupt change, then better again."""
    at = np.arange(count)
    level = 0.95 - 0.65 * np.exp(-(at % (count // 2)) / 400)
    return luck.random((streams, count)) < level, luck.random((streams, count)) < level


def bursty(luck: Random, streams: int, count: int) -> tuple[Outcomes, Outcomes]:
    """Hard and easy samples come in runs of 50 on average, the same for both."""
    hard = runs(luck, streams, count, leave=0.02) < 0.5
    level = np.where(hard, 0.5, 0.95)
    return luck.random((streams, count)) < level, luck.random((streams, count)) < level


def better_by_turns(luck: Random, streams: int, count: int) -> tuple[Outcomes, Outcomes]:
    """Now one is better by 10 points, now the other, for 250 samples each: the mean difference comes back to 0."""
    turn = np.where((np.arange(count) // 250) % 2, 0.05, -0.05)
    return luck.random((streams, count)) < 0.8 + turn, luck.random((streams, count)) < 0.8 - turn


def own_runs(luck: Random, streams: int, count: int) -> tuple[Outcomes, Outcomes]:
    """Each learner's errors come in runs of 50 of its own: for so long it truly is the worse one."""
    return tuple(luck.random((streams, count)) < np.where(runs(luck, streams, count, leave=0.02) < 0.2, 0.05, 0.95)
                 for _ in range(2))


def runs(luck: Random, streams: int, count: int, leave: float) -> NDArray[np.float64]:
    """Uniform numbers that stay as they are until one in `1 / leave` samples draws a new one."""
    fresh = luck.random((streams, count)) < leave
    fresh[:, 0] = True
    last = np.maximum.accumulate(np.where(fresh, np.arange(count), 0), axis=1)
    return np.take_along_axis(luck.random((streams, count)), last, axis=1)


def watch(challenger: Outcomes, baseline: Outcomes, alpha: float) -> NDArray[np.int64]:
    """Return the verdict after every sample [streams, N]: 1, 0 or -1, as `PairedTest` has it.

    Its boundary is read from a table by straight lines, which lie below the concave curve: no lead is missed by that.
    """
    d = challenger.astype(np.float64) - baseline
    total = np.cumsum(d, axis=1)
    at = np.arange(1, d.shape[1] + 1)
    before = np.concatenate((np.zeros((len(d), 1)), total[:, :-1]), axis=1) / np.maximum(at - 1, 1)
    variance = np.cumsum((d - before) ** 2, axis=1)
    grid = np.concatenate(([0.0], np.geomspace(0.01, 4 * d.shape[1], 3_000)))
    radius = np.interp(variance, grid, [boundary(float(one), alpha / 2) for one in grid])
    return np.where(total > radius, 1, np.where(total < -radius, -1, 0))


def same_as_the_test(kind: Callable[..., tuple[Outcomes, Outcomes]]) -> None:
    """Hold `watch` to `PairedTest` on one stream, after every tenth sample."""
    challenger, baseline = kind(np.random.default_rng(9), 1, SAMPLES)
    verdicts, test = watch(challenger, baseline, ALPHA)[0], PairedTest(ALPHA)
    for end in range(10, SAMPLES + 1, 10):
        test.update(challenger[0, end - 10:end], baseline[0, end - 10:end])
        said = {"challenger leads": 1, "open": 0, "baseline leads": -1}[test.verdict]
        assert said == verdicts[end - 1] or abs(test.mean_difference) < 1.01 * test.interval[1], (end, said)


def false_leads(streams: int) -> None:
    """Print how often a lead is named where none is, at any time and at the end."""
    for kind in (independent, drifting, bursty, better_by_turns, own_runs):
        same_as_the_test(kind)
        ever = last = 0
        for seed in range(0, streams, 100):
            count = min(100, streams - seed)
            verdicts = watch(*kind(np.random.default_rng(seed), count, SAMPLES), ALPHA)
            ever += int((verdicts != 0).any(axis=1).sum())
            last += int((verdicts[:, -1] != 0).sum())
        print(f"{kind.__name__:16} a lead at any time {100 * ever / streams:5.2f} %, at the end "
              f"{100 * last / streams:5.2f} % of {streams} streams", flush=True)


def decisions(streams: int) -> None:
    """Print after how many samples a true difference of 2 points is decided, over what a fixed-size test needs."""
    for base in (0.6, 0.8, 0.9, 0.96):
        spread = base * (1 - base) + (base + 0.02) * (0.98 - base)
        fixed = math.ceil((1.959964 + 0.841621) ** 2 * spread / 0.02**2)
        found = []
        for seed in range(0, streams, 20):
            luck, shape = np.random.default_rng(seed), (min(20, streams - seed), 6 * fixed)
            verdicts = watch(luck.random(shape) < base + 0.02, luck.random(shape) < base, ALPHA)
            led = verdicts == 1
            found += np.where(led.any(axis=1), led.argmax(axis=1) + 1, 6 * fixed + 1).tolist()
        median = statistics.median(found)
        print(f"{base:.2f} against {base + 0.02:.2f}: fixed size {fixed:,}, median {median:,.0f} samples, "
              f"{median / fixed:.2f} times", flush=True)


def rate() -> None:
    """Print how many pairs a second a test takes in."""
    luck = np.random.default_rng(0)
    blocks = [(luck.random(1000) < 0.8, luck.random(1000) < 0.8) for _ in range(100)]
    speeds = []
    for _ in range(7):
        test, begin = PairedTest(), time.process_time()
        for _ in range(20):
            for challenger, baseline in blocks:
                test.update(challenger, baseline)
        speeds.append(test.samples / (time.process_time() - begin))
    print(f"{statistics.median(speeds):,.0f} pairs a second of processor time, "
          f"from {min(speeds):,.0f} to {max(speeds):,.0f}")


def cost() -> None:
    """Print what figures and comparison of 32 members take, beside what learning takes."""
    for size, hidden in ((8, [256, 256]), (8, [64, 64]), (1, [64, 64])):
        rates = [0.01 * 1.05**place for place in range(32)]
        race = Race(Experiment.model_validate({
            "stream": {"source": {"kind": "mnist"}}, "network": {"hidden": hidden}, "service": {"device": "cpu"},
            "arms": {"many": {"algorithm": "bp-sgd", "batch_size": size, "learning_rate": rates},
                     "one": {"algorithm": "bp-sgd", "batch_size": size}},
            "comparisons": [{"challenger": "many", "baseline": "one"}]}))
        arm = race.arms["many"]
        arm.start(784)
        x, y, segment = torch.rand(256, 784), torch.randint(0, 10, (256,)), np.zeros(256, np.int64)
        luck = np.random.default_rng(0)
        learning = figures = 0.0
        for call in range(8):
            begin = time.process_time()
            outcome = arm.population.learn(x, y)
            learning += time.process_time() - begin
            predicted, loss = outcome.predicted.numpy(), outcome.loss.double().numpy()
            right = luck.random((1, 256)) < 0.5
            race.comparisons.tell("one", right, segment, 256 * call)
            begin = time.process_time()
            correct = arm.score(predicted, y.numpy(), loss, segment)
            race.comparisons.tell("many", correct, segment, 256 * call)
            figures += time.process_time() - begin
        layers = "-".join(map(str, [784, *hidden, 10]))
        print(f"bp-sgd {layers}, mini-batches of {size}: learning {learning / 2048 * 1e6:.0f} us a sample, figures and "
              f"comparison {figures / 2048 * 1e6:.1f} us, {100 * figures / learning:.1f} %", flush=True)


def implicit() -> None:
    """Print how far the reference of the diagnostics is from implicit SGD solved to the end, and what it takes."""
    torch.set_num_threads(1)
    luck = np.random.default_rng(0)
    x = (luck.random((1, 784)) * (luck.random((1, 784)) < 0.2)).astype(np.float32)
    for alpha in (0.1, 1.0, 5.0):
        moves = {}
        for rule in (ImplicitSGD, _Reference):
            population = rule([784, 256, 256, 10], [ImplicitSGDHyperparameters(alpha=alpha)], [0], batch_size=1, seed=0,
                              device=torch.device("cpu"), dtype=torch.float32, activation="relu", growing=False)
            before, begin = population.weights, time.perf_counter()
            population.step(x, [3])
            pairs = zip(population.weights, before, strict=True)
            moves[rule] = [(new - old).flatten() for (new, _), (old, _) in pairs], time.perf_counter() - begin
        (whole, long), (part, short) = moves[ImplicitSGD], moves[_Reference]
        cosines = [float(torch.cosine_similarity(a, b, 0)) for a, b in zip(whole, part, strict=True)]
        print(f"alpha {alpha:g}: {_Reference.evaluations} evaluations in {short:.1f} s, to the end {long:.1f} s; "
              f"cosine by layer {', '.join(f'{one:.4f}' for one in cosines)}", flush=True)


def judge() -> None:
    """Print how many prediction rows a second a judge takes in: ten arms of one member, twelve comparisons, JSON."""
    rules = ("il-kfac", "il-prox", "bp-kfac", "bp-adam", "bp-sgd")
    judging = Judge(Race(Experiment.model_validate({
        "stream": {"source": {"kind": "mnist"}}, "network": {"hidden": [4]},
        "arms": {rule: {"algorithm": rule, "batch_size": [1, 8]} for rule in rules}})))
    luck = np.random.default_rng(0)
    records = [
        orjson.dumps([{"arm": arm, "ordinal": one, "id": None, "origin": "topic/0/1/2", "label": str(one % 10),
                       "segment": 0, "predicted": [str(luck.integers(10))], "probability": [0.5]}
                      for one in range(first, first + 64)])
        for first in range(0, 6400, 64) for arm in judging.race.arms]
    begin = time.process_time()
    for value in records:
        judging.take(decode_predictions(value))
    print(f"{64 * len(records) / (time.process_time() - begin):,.0f} rows a second of processor time")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("false-leads", "decisions", "rate", "cost", "implicit", "judge"))
    parser.add_argument("--streams", type=int)
    options = parser.parse_args()
    if options.what == "false-leads":
        false_leads(options.streams or 2_000)
    elif options.what == "decisions":
        decisions(options.streams or 1_000)
    elif options.what == "rate":
        rate()
    elif options.what == "cost":
        cost()
    elif options.what == "implicit":
        implicit()
    else:
        judge()


if __name__ == "__main__":
    main()
