"""ADWIN against river's, and against streams that change at a known place or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from river import drift

from streamil.errors import EvaluationError
from streamil.evaluation.adwin import Adwin


def changing(seed: int, *means: float, each: int = 1500) -> np.ndarray:
    luck = np.random.default_rng(seed)
    return np.concatenate([luck.random(each) < mean for mean in means]).astype(float)


@pytest.mark.parametrize("seed", range(12))
def test_equals_rivers(seed: int) -> None:
    values = changing(seed, 0.3, 0.34, 0.1, 0.8, 0.78, 0.5)
    theirs, noticed = drift.ADWIN(), []
    for place, value in enumerate(values.tolist()):
        theirs.update(value)
        if theirs.drift_detected:
            noticed.append(place + 1)
    ours = Adwin()
    assert ours.update(values) == noticed and len(noticed) >= 3
    assert ours.width == theirs.width and ours.mean == pytest.approx(theirs.estimation)


def test_steady_streams_are_seldom_cut() -> None:
    cut = sum(len(Adwin().update(changing(seed, 0.2, each=5000))) for seed in range(60))
    assert cut <= 6, "five thousand samples each"


def test_cuts_of_calls_change_nothing_and_a_state_goes_on() -> None:
    values = changing(5, 0.2, 0.9, 0.4)
    whole = Adwin()
    noticed = whole.update(values)
    pieces, found = Adwin(), []
    for part in np.split(values, [1, 7, 1400, 1501, 3000]):
        found += pieces.update(part)
        again = Adwin()
        again.load_state_dict(pieces.state_dict())
        pieces = again
    assert found == noticed and np.array_equal(whole.state_dict()["sums"], pieces.state_dict()["sums"])
    assert whole.state_dict()["variance"] == pieces.state_dict()["variance"]


def test_memory_grows_with_the_logarithm() -> None:
    adwin = Adwin()
    adwin.update(changing(1, 0.5, each=40_000))
    assert len(adwin.state_dict()["sums"]) < 6 * 17 and adwin.width == 40_000


@pytest.mark.parametrize("change", [
    {"buckets": np.array([9])}, {"buckets": np.zeros(0, np.int64)}, {"width": 3}, {"sums": np.zeros((1, 2))}, {"buckets": np.array([-1, 3])}])
def test_a_state_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    adwin = Adwin()
    adwin.update(np.array([1.0, 0.0, 1.0, 1.0]))
    state = adwin.state_dict()
    with pytest.raises(EvaluationError):
        adwin.load_state_dict(state | change)
    assert adwin.width == 4


def test_wrong_values_are_told() -> None:
    for values in ([2.0], [float("nan")], [[0.5]], [-0.1]):
        with pytest.raises(EvaluationError, match="it must be"):
            Adwin().update(np.array(values))
    with pytest.raises(EvaluationError, match="delta"):
        Adwin(0)
