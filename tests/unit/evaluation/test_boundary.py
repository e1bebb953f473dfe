"""The boundary against the reference implementation's numbers and against its own definition."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.special import gammainc, gammaln

from streamil.errors import EvaluationError
from streamil.evaluation.boundary import SCALE, TERMS_AT_ONCE, TIGHTEST_AT, boundaries, boundary


@pytest.mark.parametrize(("variance", "alpha", "expected"), [
    (100, 0.05, 33.02017),  # confseq's own unit test, computed there by a reference in R
    # gamma_exponential_mixture_bound(variance, alpha, v_opt=100, c=2, alpha_opt=alpha) of confseq 0.0.11, which
    # comparecast 1.0.0 calls
    (1, 0.025, 13.9421685605), (1, 0.0025, 18.2297949662), (1, 1e-5, 28.6999622344),
    (100, 0.025, 36.8719709241), (100, 1e-5, 69.7547597909),
    (25_000, 0.0025, 704.371375796), (1e6, 0.025, 4207.64975057), (1e6, 1e-5, 5912.70289622),
])
def test_equals_the_reference_implementation(variance: float, alpha: float, expected: float) -> None:
    assert boundary(float(variance), alpha) == pytest.approx(expected, rel=1e-7 if alpha == 0.05 else 1e-10)


@pytest.mark.parametrize("alpha", [0.4, 0.025, 1e-4])
@pytest.mark.parametrize("variance", [0.0, 0.5, 7.0, 300.0, 20_000.0])
def test_solves_proposition_nine_in_its_incomplete_gamma_form(variance: float, alpha: float) -> None:
    spread = 2 * math.log(1 / (2 * alpha))
    rho = TIGHTEST_AT / (spread + math.log(1 + spread)) / SCALE**2
    a, s = rho + variance / SCALE**2, boundary(variance, alpha)
    x = a + s / SCALE
    constant = rho * math.log(rho) - gammaln(rho) - math.log(gammainc(rho, rho))
    log_mixture = constant + gammaln(a) + math.log(gammainc(a, x)) - a * math.log(x) + (x - rho)
    assert log_mixture == pytest.approx(math.log(1 / alpha), abs=1e-7)


def test_grows_with_variance_and_with_confidence() -> None:
    values = [boundary(float(variance), 0.025) for variance in (0, 1e-9, 1e-3, 1, 10, 1e3, 1e5, 1e8)]
    assert values == sorted(values)
    assert boundary(10.0, 0.4) < boundary(10.0, 0.1) < boundary(10.0, 1e-3) < boundary(10.0, 1e-100)


@pytest.mark.parametrize(("variance", "alpha"), [(1.0, 0.0), (1.0, 0.5), (1.0, math.nan), (-1.0, 0.1), (math.nan, 0.1)])
def test_arguments_out_of_range_are_named(variance: float, alpha: float) -> None:
    with pytest.raises(EvaluationError, match=r"(alpha|variance) is"):
        boundary(variance, alpha)


def test_many_at_once_are_one_by_one_and_bounded_in_memory() -> None:
    variances = np.concatenate((np.zeros(1), np.logspace(-3, 8, 300)))
    tracemalloc.start()
    found = boundaries(variances, 0.001)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.tolist() == pytest.approx([boundary(one, 0.001) for one in variances.tolist()], rel=1e-12)
    assert peak < 8 * 8 * TERMS_AT_ONCE
    assert boundaries(np.zeros(0), 0.01).shape == (0,)
