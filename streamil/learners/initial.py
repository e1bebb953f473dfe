"""First weights: each row of each layer from a counter-based generator of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def initial_rows(seed: int, member_seed: int, layer: int, rows: Iterable[int], fan_in: int) -> NDArray[np.float64]:
    r"""Return rows [n, fan_in + 1] of W with the bias as last column.

    torch's default for linear layers, $U(-1/\sqrt{n_{in}}, 1/\sqrt{n_{in}})$, from Philox with the key (seed of the
    population, seed of the member) and the counter (0, 0, row, layer). So a row depends neither on how many rows there
    are nor on the neighbours, the rule or the dtype: members of equal seed start equal in every rule.

    Examples
    --------
    >>> bool((initial_rows(0, 1, 2, [7], 3) == initial_rows(0, 1, 2, range(9), 3)[7]).all())
    True
    """
    bound = 1 / math.sqrt(fan_in)
    key = np.array([seed, member_seed], dtype=np.uint64)
    counters = [np.array([0, 0, row, layer], dtype=np.uint64) for row in rows]
    generators = [np.random.Generator(np.random.Philox(key=key, counter=counter)) for counter in counters]
    drawn = [generator.uniform(-bound, bound, fan_in + 1) for generator in generators]
    return np.array(drawn, dtype=np.float64).reshape(-1, fan_in + 1)
