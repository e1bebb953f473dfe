"""The CPU's kernels against the plain rules, in float64: equal to rounding, whatever the sizes and options."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from streamil.kernels import kernel_name, prepare
from streamil.kernels.cpu import kfac, kfac_populations, record
from streamil.kernels.cpu.calls import NAME, WORTH_A_THREAD
from streamil.kernels.cpu.populations import FORMS
from streamil.learners import create, learner_class
from streamil.learners.metric import Metric

RULES = {rule.algorithm: rule for rule in (*FORMS, *kfac_populations.RULES)}
LARGEST = {rule.algorithm: form.largest for rule, form in FORMS.items()}


def samples(rng, layers, count):
    x = rng.normal(size=(count, layers[0])) * (rng.random((count, layers[0])) < 0.6)
    return x.astype(np.float32), rng.integers(0, layers[-1], count)


def kfac_members(rng, algorithm, count):
    least = -4 if algorithm == "il-kfac" else -6  # a long explicit step amplifies what rounding does
    shared = {"train_biases": bool(rng.integers(2)), "adaptive": bool(rng.integers(4)), "refresh": 5}
    several = [{"alpha": 10 ** rng.uniform(least, least + 2), "alpha_min": 1e-6, "alpha_gain": rng.uniform(0, 0.1),
                "average_rate": rng.uniform(0.003, 0.3), "forget": rng.uniform(0.5, 1), "epsilon": rng.uniform(0.2, 1),
                "damping": rng.choice([0.3, 1.0]), "metric_rate": rng.choice([2e-4, 0.1]),
                "precision_rate": rng.uniform(0.001, 0.1), "precision_damping": rng.uniform(0, 0.9), "seed": seed}
               for seed in range(count)]
    return [{**shared, **one} for one in several]


def members_of(rng, algorithm, count):
    """Members that share what is structural, each with values of its own."""
    if RULES[algorithm] in kfac_populations.RULES:
        return kfac_members(rng, algorithm, count)
    fields = RULES[algorithm].Hyperparameters.model_fields
    shared = {"train_biases": bool(rng.integers(2)), "target": rng.choice(["lagged", "fresh"]).item(),
              "sweep": rng.choice(["simultaneous", "sequential"]).item(), "inference_steps": int(rng.integers(0, 5)),
              "batch_rule": rng.choice(["affine-projection", "nlms-mean"]).item()}
    several = [{"alpha": 10 ** rng.uniform(-1, 1), "epsilon": rng.uniform(0.3, 2), "gamma_bottom": rng.uniform(0, 0.2),
                "gamma_top": rng.choice([0, 0.03]), "gamma_decay": rng.choice([0, 0.02]), "clamp": rng.uniform(0.3, 1),
                "learning_rate": 10 ** rng.uniform(-3, -2), "eps": 1e-3, "kappa": 10 ** rng.uniform(-3, 1)} for _ in range(count)]
    return [{name: value for name, value in {**shared, **one, "seed": seed}.items() if name in fields or name == "seed"}
            for seed, one in enumerate(several)]


def close(ours, exact, tolerance, what):
    """Equal where not finite; elsewhere within the tolerance of the largest value: some roundings of float32 a sum."""
    ours, exact = ours.double(), exact.double()
    finite = torch.isfinite(exact)
    assert torch.equal(finite, torch.isfinite(ours)), what
    ours, exact = ours[finite], exact[finite]
    assert not exact.numel() or (ours - exact).abs().max() <= tolerance * exact.abs().max().clamp(min=1), what


def compare(algorithm, layers, members, batches, batch_size, seed=0, tolerance=3e-5, **options):
    """Learn by the kernel in float32, and by the plain rule in float64."""
    rng = np.random.default_rng(seed)
    x, y = samples(rng, layers, batches * batch_size)
    fused = create(algorithm, layers, members, batch_size=batch_size, **options)
    plain = create(algorithm, layers, members, batch_size=batch_size, dtype="float64", **options)
    assert fused.kernel.name == NAME and plain.kernel is None
    ours, exact = fused.learn(x, y), plain.learn(x, y)
    close(ours.logits, exact.logits, tolerance, "logits")
    close(ours.loss, exact.loss, tolerance, "loss")
    state, expected = fused.state_dict(), plain.state_dict()
    for name, tensor in state.items():
        close(tensor, expected[name], tolerance, name)
    assert (fused.energy is None) == (plain.energy is None)
    if plain.energy is not None:
        close(fused.energy, plain.energy, tolerance, "energy")
    assert fused.steps == plain.steps
    return fused


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("algorithm", RULES)
def test_random_sizes_and_options(algorithm, seed):
    rng = np.random.default_rng([seed, len(algorithm)])
    hidden = [int(size) for size in rng.integers(1, 40, seed % 4)]
    activation = ["relu", "relu", "tanh", "leaky-relu", "identity"][int(rng.integers(5))]
    batch_size = min([1, 1, 2, 5, 17][int(rng.integers(5))], LARGEST.get(algorithm, 17))
    compare(algorithm, [int(rng.integers(1, 40)), *hidden, int(rng.integers(2, 9))], members_of(rng, algorithm, 3), 4,
            batch_size, seed, activation=activation)


@pytest.mark.parametrize("algorithm", RULES)
@pytest.mark.parametrize("batch_size", [1, 8])
def test_sizes_of_real_networks(algorithm, batch_size):
    rng = np.random.default_rng(1)
    size = min(batch_size, LARGEST.get(algorithm, batch_size))
    compare(algorithm, [784, 256, 256, 10], members_of(rng, algorithm, 2), 4, size)


@pytest.mark.parametrize("algorithm", ["il-prox", "bp-prox", "il-prox-adam"])
@pytest.mark.parametrize("biases", [True, False])
def test_more_samples_than_inputs_are_solved_by_the_dual(algorithm, biases):
    members = [{"epsilon": 1.0, "train_biases": biases, **({"eps": 1e-3} if "adam" in algorithm else {})}]
    compare(algorithm, [3, 5, 40, 3], members, 3, 24)


@pytest.mark.parametrize("algorithm", RULES)
def test_classes_met_as_they_come(algorithm):
    fused = compare(algorithm, [5, 6, 4, 4], members_of(np.random.default_rng(2), algorithm, 2), 14, 1, growing=True)
    assert fused.live.all()


@pytest.mark.parametrize("algorithm", ["il-kfac", "bp-kfac"])
def test_kfac_over_many_renewals_and_cuts(algorithm):
    members = kfac_members(np.random.default_rng(3), algorithm, 3)
    compare(algorithm, [12, 9, 7, 3], [one | {"refresh": 30, "adaptive": True} for one in members], 90, 3,
            tolerance=1e-3)
    x, y = samples(np.random.default_rng(0), [12, 9, 7, 3], 90)
    whole, cut = (create(algorithm, [12, 9, 7, 3], members, batch_size=3) for _ in range(2))
    whole.learn(x, y)
    for begin in range(0, 90, 6):
        cut.learn(x[begin : begin + 6], y[begin : begin + 6])
    other = cut.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("algorithm", RULES)
def test_a_member_that_diverges_stops_and_its_neighbours_do_not_notice(algorithm):
    layers, members = [4, 6, 3], [{"seed": seed} for seed in range(3)]
    rng = np.random.default_rng(0)
    x, y = samples(rng, layers, 6)
    fused, plain = create(algorithm, layers, members), create(algorithm, layers, members, kernels="none")
    weights = plain.weights
    weights[0][0][1], weights[0][1][1] = 3e38, 3e38  # finite weights, and activities that are not
    weights[1][0][1] = 3e38
    for population in (fused, plain):
        population.weights = weights
    ours, exact = fused.learn(x, y), plain.learn(x, y)
    assert fused.diverged.tolist() == plain.diverged.tolist() == [False, True, False]
    close(ours.logits[[0, 2]], exact.logits[[0, 2]], 3e-5, "logits")
    for new, first in zip(fused.weights, weights, strict=True):
        assert torch.equal(new[0][1], first[0][1]) and torch.equal(new[1][1], first[1][1])
    assert all(bool(torch.isfinite(tensor).all()) for pair in fused.weights for tensor in pair)


@pytest.mark.parametrize(("algorithm", "alpha"), [("il-prox", 1.0), ("il-kfac", 1e-3)])
def test_threads_change_no_bit(algorithm, alpha, monkeypatch):
    def renew(metric, *arguments, plainly=Metric.renew):  # torch's products round otherwise in more threads
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        plainly(metric, *arguments)
        torch.set_num_threads(threads)

    monkeypatch.setattr(Metric, "renew", renew)
    members, layers = [{"seed": seed, "alpha": alpha * (1 + seed)} for seed in range(7)], [64, 128, 128, 10]
    x, y = samples(np.random.default_rng(0), layers, 64)
    assert len(members) * len(y) * 64 * 128 * 12 > WORTH_A_THREAD
    states, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            population = create(algorithm, layers, members)
            outcome = population.learn(x, y)
            states.append({**population.state_dict(), "logits": outcome.logits, "energy": population.energy})
    finally:
        torch.set_num_threads(before)
    for other in states[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in states[0].items())


def test_a_kernel_is_chosen_for_what_it_knows_and_can_be_refused():
    assert create("il-prox", [4, 8, 3], kernels="none").kernel is None
    assert create("il-prox", [4, 8, 3], dtype="float64").kernel is None
    assert create("implicit-sgd", [4, 8, 3]).kernel is None
    assert create("bp-sgd", [4, *[2] * 8, 3]).kernel is None, "deeper than the kernel"
    assert create("bp-sgd", [40_000, 2, 3], batch_size=128).kernel is None, "working memory"
    parts = create("il-prox", [4, 8, 3], [{"inference_steps": 3}, {"inference_steps": 4}]).parts
    assert all(part.kernel.name == NAME for part in parts)
    assert kernel_name(learner_class("il-prox"), torch.device("cpu")) == NAME
    assert kernel_name(learner_class("implicit-sgd"), torch.device("cpu")) == "none"


def test_compiled_anew_and_taken_from_disk_it_gives_the_same_bits(tmp_path):
    code = ("import hashlib, numpy as np, torch\nfrom streamil.learners import create\nrng = np.random.default_rng(0)\n"
            "for rule in ('il-prox', 'bp-adam', 'il-kfac'):\n"
            "    one = create(rule, [300, 128, 128, 10], [{}, {'seed': 1}])\n"
            "    one.learn(rng.random((400, 300)), rng.integers(0, 10, 400))\n"
            "    print(hashlib.sha256(b''.join(t.numpy().tobytes() for t in one.state_dict().values())).hexdigest())")
    said = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}).stdout for _ in range(2)]
    assert said[0] == said[1] and list(tmp_path.rglob("*.nbc")), "one function, inlined: none of its parts is taken from elsewhere"


@pytest.mark.parametrize("algorithm", RULES)
def test_all_shapes_and_cuts_are_one_compilation(algorithm):
    prepare([algorithm])
    for members, count in ((1, 1), (3, 5)):
        x, y = samples(np.random.default_rng(0), [6, 4, 7], count)
        population = create(algorithm, [6, 4, 7], [{"seed": seed} for seed in range(members)], growing=members > 1)
        population.learn(x, y)
        if members > 1:
            weights = population.weights
            weights[0][0][1] = 3e38
            population.weights = weights  # near overflow a member goes on by itself
            population.learn(x, y)
    assert all(len(one.signatures) <= 1 for one in (record.learn, record.learn_post, kfac.learn, kfac.project))


def test_who_waits_for_a_compilation_is_told_and_nobody_else(monkeypatch):
    told: list[str] = []
    prepare(["il-prox"])
    prepare(["il-prox", "bp-sgd", "another.module:arm"], told.append)
    assert not told
    monkeypatch.setattr("streamil.kernels.PATIENCE", 0.0)
    monkeypatch.setattr("streamil.learners.create", lambda *given: time.sleep(0.3) or create(*given))
    prepare(["il-prox"], told.append)
    assert told == ["making kernels ready for this CPU: up to half a minute where they are compiled first, once"]


def test_where_nothing_can_be_kept_each_process_compiles(tmp_path):
    """A read-only installation without a home: the kernel is there, and only its file on disk is not."""
    code = ("import numba.core.caching as c\n"
            "for one in c.CacheImpl._locator_classes: one.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError())\n"
            "from streamil.kernels.cpu import record\n"
            "print(type(record.learn._cache).__name__)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"HOME": str(tmp_path)})
    assert done.stdout.strip() == "NullCache", done.stderr
