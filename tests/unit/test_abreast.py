"""Arms that learn at the same time: the same numbers, and no thread where none is worth it or none may be."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from streamil.abreast import in_turn
from streamil.experiment import Experiment
from streamil.race import WORTH_A_THREAD, Race
from streamil.samples import Records

ARMS = {
    "il": {"algorithm": "il-prox", "inference_steps": [3, 5]}, "bp": {"algorithm": "bp-adam"}, "sgd": {"algorithm": "bp-sgd", "batch_size": 4},
    "plain": {"algorithm": "implicit-sgd"}, "natural": {"algorithm": "il-kfac"}, "river": {"algorithm": "river:naive_bayes.GaussianNB"},
}


def records(count):
    random = np.random.default_rng(count)
    return Records(y=[f"class {label}" for label in random.integers(5, size=count)], x=random.normal(size=(count, 6)))


def learned(threads, cuts, arms=ARMS):
    """A race that has learned, and which thread called which learner."""
    callers = []

    @contextmanager
    def timed(arm, updates):
        callers.append((arm.partition("@")[0], threading.current_thread().name.partition("_")[0]))
        yield

    race = Race(Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [7]}, "arms": arms, "service": {"threads": threads}}), timed=timed)
    first = 0
    for end in cuts:
        race.feed(records(200)[first:end], np.arange(first, end))
        first = end
    return race, callers


@pytest.fixture(autouse=True)
def one_thread_afterwards():
    yield
    torch.set_num_threads(1)


def test_arms_learn_the_same_numbers_at_once_and_one_after_another():
    alone, _ = learned(1, [200])
    abreast, callers = learned(3, [5, 120, 200])
    assert {who for _, who in callers} == {"MainThread", "arm"}
    np.testing.assert_equal(abreast.comparisons.state_dict(), alone.comparisons.state_dict())
    for name, arm in alone.arms.items():
        if name != "river":
            ours, theirs = (one.state_dict() for one in (arm.population, abreast.arms[name].population))
            assert all(ours[key].equal(theirs[key]) for key in ours), name
        np.testing.assert_equal(arm.figures.state_dict(), abreast.arms[name].figures.state_dict())


def test_only_kernels_get_threads_and_only_for_samples_enough():
    _, callers = learned(2, [WORTH_A_THREAD - 1, 2 * WORTH_A_THREAD - 1])
    few, enough = callers[:len(ARMS)], callers[len(ARMS):]
    assert {who for _, who in few} == {"MainThread"}
    assert sorted(enough) == [("bp", "arm"), ("il", "arm"), ("natural", "arm"), ("plain", "MainThread"), ("river", "MainThread"), ("sgd", "arm")]


@pytest.mark.parametrize("arms", [{"il": ARMS["il"], "plain": ARMS["plain"]}, {"il": {"algorithm": "il-prox", "seeds": 9}, "plain": ARMS["plain"]}])
def test_an_arm_without_company_gets_no_thread_of_its_own(arms):
    assert {who for _, who in learned(2, [200], arms)[1]} == {"MainThread"}


def test_an_error_is_raised_in_its_turn_and_nobody_goes_on_behind_it():
    answered, done = threading.Event(), []

    def call(name):
        if name != "good":
            answered.wait(10)
        if name == "bad":
            raise ValueError(name)
        if name == "late":
            time.sleep(0.2)
        done.append(name)
        return name

    answers = in_turn(call, ["good", "bad", "late"], ["bad", "late"], threads=2)
    assert next(answers) == ("good", "good")
    answered.set()
    with pytest.raises(ValueError, match="bad"):
        next(answers)
    assert done == ["good", "late"]
