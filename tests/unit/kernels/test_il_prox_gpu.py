"""The fused `il-prox` against the plain rule.

The comparisons run compiled where there is a GPU, and in Triton's interpreter, which must be asked for before triton is
imported: in a process of its own, that runs this file again.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from streamil.kernels.gpu.il_prox import DEFAULT, Configuration, ILProxKernel, supports
from streamil.learners import create

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
SMALL = Configuration(warps=4, tile=64, columns=8)  # several tiles even of small layers
compared = [] if INTERPRETED else [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


def on_device(test):
    for mark in compared:
        test = mark(test)
    return test


def samples(layers, count, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, layers[0])) * (rng.random((count, layers[0])) < 0.6)
    return x.astype(np.float32), rng.integers(0, layers[-1], count)


def build(layers, members, dtype="float32", device=None, **options):
    return create("il-prox", layers, members, dtype=dtype, device=device or DEVICE, kernels="none", **options)


def fuse(population, configuration=SMALL):
    population.kernel = ILProxKernel(configuration)
    return population


def close(ours, exact, tolerance):
    """Equal where not finite; elsewhere within the tolerance of the largest value, a few roundings of float32 a sum."""
    ours, exact = ours.double().cpu(), exact.double().cpu()
    finite = torch.isfinite(exact)
    assert torch.equal(finite, torch.isfinite(ours))
    ours, exact = ours[finite], exact[finite]
    assert not exact.numel() or (ours - exact).abs().max() <= tolerance * exact.abs().max().clamp(min=1)


def compare(layers, members, count, seed=0, tolerance=2e-6, configuration=SMALL, **options):
    """Learn fused in float32, and sample by sample by the plain rule in float64."""
    x, y = samples(layers, count, seed)
    fused, plain = fuse(build(layers, members, **options), configuration), build(layers, members, "float64", "cpu", **options)
    outcome = fused.learn(x, y)
    steps = [plain.step(x[i:i + 1], y[i:i + 1]) for i in range(count)]
    for place, step in enumerate(steps):
        classes = step.logits.shape[-1]
        close(outcome.logits[:, place, :classes], step.logits[:, 0], tolerance)
        assert outcome.logits[:, place, classes:].isneginf().all()
        close(outcome.loss[:, place], step.loss[:, 0], tolerance)
    for ours, exact in zip(fused.weights, plain.weights, strict=True):
        close(ours[0], exact[0], tolerance), close(ours[1], exact[1], tolerance)
    assert fused.steps == plain.steps
    close(fused.energy, plain.energy, tolerance)
    return fused


@pytest.mark.skipif(INTERPRETED, reason="this is that process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True,
                          timeout=280, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" in done.stdout and " passed" in done.stdout


@on_device
@pytest.mark.parametrize("seed", range(6))
def test_random_sizes_and_options(seed):
    rng = np.random.default_rng(seed)
    hidden = [int(size) for size in rng.integers(1, 20, seed % 3 + 1)]
    shared = {"inference_steps": int(rng.integers(1, 4)), "target": ["lagged", "fresh"][seed // 3],
              "train_biases": bool(rng.integers(2))}
    members = [{**shared, "seed": place, "alpha": float(10 ** rng.uniform(-1, 2)), "epsilon": float(rng.uniform(0, 2)),
                "gamma_bottom": float(rng.uniform(0, 0.2)), "gamma_top": float(rng.uniform(0, 0.05)) * (seed % 2),
                "gamma_decay": float(rng.uniform(0, 0.05)) * (seed % 2)} for place in range(2)]
    compare([int(rng.integers(1, 24)), *hidden, int(rng.integers(2, 9))], members, 3, seed)


@on_device
@pytest.mark.parametrize("hidden", [[7], [7, 9]])
def test_without_inference_only_the_output_layer_learns(hidden):
    before = build([5, *hidden, 3], [{"inference_steps": 0}]).weights
    after = compare([5, *hidden, 3], [{"inference_steps": 0}], 4).weights
    changed = [not torch.equal(old[0], new[0]) for old, new in zip(before, after, strict=True)]
    assert changed == [False] * len(hidden) + [True]


@on_device
def test_classes_met_as_they_come():
    population = compare([5, 6, 4, 4], [{"inference_steps": 2}, {"inference_steps": 2, "alpha": 9.0}], 14, growing=True)
    assert population.live.all()


@on_device
def test_cuts_into_calls_change_no_bit():
    layers, members = [9, 6, 7, 3], [{"inference_steps": 2}, {"inference_steps": 2, "seed": 1}]
    x, y = samples(layers, 7)
    whole, cut = fuse(build(layers, members)), fuse(build(layers, members))
    outcome = whole.learn(x, y)
    parts = [cut.learn(x[run], y[run]) for run in (slice(0, 1), slice(1, 5), slice(5, 7))]
    assert torch.equal(outcome.logits, torch.cat([part.logits for part in parts], 1))
    assert torch.equal(outcome.loss, torch.cat([part.loss for part in parts], 1))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, cut.state_dict()[name]), name


@on_device
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy in the interpreter
@pytest.mark.parametrize("hidden", [[6], [6, 5], [6, 5, 4]])
@pytest.mark.parametrize("bad", ["activity", "logit", "weight"])
def test_a_member_that_diverges_stops_and_its_neighbours_do_not_notice(hidden, bad):
    layers = [4, *hidden, 3]
    x, y = samples(layers, 3)
    x = np.abs(x) / 10
    x[:, 0] = 0.5
    members = [{"inference_steps": 2, "seed": seed} for seed in range(3)]
    if bad == "weight":
        members[1] |= {"gamma_top": 25.0, "gamma_decay": 0.1, "epsilon": 0.0}
    fused, plain = build(layers, members), build(layers, members, device="cpu")
    weights = plain.weights
    for weight, _ in weights:
        weight[1].abs_()
    if bad == "activity":  # a weight is finite, what comes of it is not
        weights[0][0][1, 0] = 3.4e38
        weights[0][1][1, 0] = 3.4e38
    elif bad == "logit":
        weights[-1][0][1] = 3e38
        weights[-2][1][1] += 5
    else:  # all errors and activities are finite, the weight is not when it has moved by them
        weights[0][0][1, 0] = torch.tensor([-2.8e38, 0, 0, 0])
    for population in (fused, plain):
        population.weights = weights
    outcome = fuse(fused).learn(x, y)
    expected = plain.learn(x, y)
    assert fused.diverged.tolist() == plain.diverged.tolist() == [False, True, False]
    close(outcome.logits[[0, 2]], expected.logits[[0, 2]], 2e-6)
    fused.learn(x, y), plain.learn(x, y)
    for new, theirs, given in zip(fused.weights, plain.weights, weights, strict=True):
        for ours, other, first in zip(new, theirs, given, strict=True):
            close(ours[[0, 2]], other[[0, 2]], 2e-6)
            assert torch.equal(ours[1].cpu(), first[1]) and torch.equal(other[1], first[1])


@on_device
@pytest.mark.skipif(INTERPRETED, reason="too large for the interpreter")
@pytest.mark.parametrize("hidden", [[256], [256, 256], [100, 300, 64]])
def test_sizes_of_real_networks(hidden):
    members = [{"inference_steps": 12, "seed": seed, "alpha": 10.0**seed, "gamma_bottom": 0.025} for seed in range(3)]
    compare([784, *hidden, 10], members, 24, tolerance=1e-5, configuration=DEFAULT)


@on_device
@pytest.mark.skipif(INTERPRETED, reason="the choice is for GPUs")
def test_the_choice_is_the_kernel_on_a_gpu():
    assert isinstance(create("il-prox", [4, 8, 3], device=DEVICE).kernel, ILProxKernel)


def test_a_choice_is_made_for_what_the_kernel_knows():
    for member, options in [({"sweep": "sequential"}, {}), ({}, {"batch_size": 2}), ({}, {"dtype": "float64"}),
                            ({}, {"activation": "tanh"})]:
        assert not supports(create("il-prox", [4, 8, 3], [member], **options))
    for layers in ([4, 3], [4, 8, 8, 8, 8, 3], [4, 5000, 3], [4, 4096, 8]):
        assert not supports(create("il-prox", layers))
    assert not supports(create("bp-sgd", [4, 8, 3]))
    assert not supports(create("il-prox", [4, 8, 3], [{"inference_steps": 3}, {"inference_steps": 4}]))
    assert supports(create("il-prox", [4, 8, 8, 8, 3], [{"gamma_top": 0.1}, {"alpha": 2.0}]))
