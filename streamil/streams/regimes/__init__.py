"""Regimes: seeded, deterministic reshapings of a source, one file each. Each takes chunks and yields chunks.

What comes out depends on seed, settings and the samples alone, never on the chunks of the source: `reshape` cuts these
anew first. To add a regime: its settings in `streamil.experiment`, its file here, one line in `REGIMES`, its section in
docs/regimes.md, and the demo's settings for it in `streamil.demo_regimes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from streamil.errors import SourceError
from streamil.experiment.regimes import Regime
from streamil.samples import Records
from streamil.streams.chunks import CHUNK, cut, pack
from streamil.streams.regimes.bursty import bursty
from streamil.streams.regimes.class_incremental import class_incremental
from streamil.streams.regimes.correlated import correlated
from streamil.streams.regimes.delayed_labels import delayed_labels
from streamil.streams.regimes.drift import drift
from streamil.streams.regimes.limited import limited
from streamil.streams.regimes.long_tail import long_tail
from streamil.streams.regimes.noisy_labels import noisy_labels
from streamil.streams.regimes.noisy_senses import noisy_senses
from streamil.streams.regimes.single_pass import single_pass
from streamil.streams.regimes.sparse_labels import sparse_labels

REGIMES: Mapping[str, Callable[[Iterator[Records], Any, np.random.Generator], Iterator[Records]]] = {
    "single-pass": single_pass, "correlated": correlated, "class-incremental": class_incremental, "drift": drift,
    "long-tail": long_tail, "noisy-senses": noisy_senses, "noisy-labels": noisy_labels, "sparse-labels": sparse_labels,
    "limited": limited, "bursty": bursty, "delayed-labels": delayed_labels,
}
NEED_AN_END = frozenset({"single-pass"})
"""Regimes that hold the whole source; all others work on sources that go on for ever."""
MAKE_AN_END = frozenset({"limited"})
"""Regimes whose samples end, whatever the source does."""


def reshape(samples: Iterator[Records], regimes: Sequence[Regime], seed: int, *, finite: bool) -> Iterator[Records]:
    """Return the samples after all regimes, in order.

    Parameters
    ----------
    samples
        The source's, in chunks of its own sizes.
    regimes
        Settings of the regimes.
    seed
        The stream's.
    finite
        Whether the source ends.

    Raises
    ------
    SourceError
        For a regime that needs a source that ends where this one does not; while iterating, what a regime cannot do.

    Examples
    --------
    >>> from streamil.experiment.regimes import SparseLabels
    >>> source = iter([Records(y=["a", "b"]), Records(y=["c"])])
    >>> [records.y for records in reshape(source, [SparseLabels(kind="sparse-labels", keep=0.5)], 1, finite=True)]
    [[None, 'b', 'c']]
    """
    if regimes:
        samples = pack(samples, CHUNK)
    before: Counter[str] = Counter()
    for regime in regimes:
        if regime.kind in NEED_AN_END and not finite:
            raise SourceError(f"regime {regime.kind} needs a source that ends, and this one goes on for ever: leave "
                              f"the regime out, or put {{kind: {min(MAKE_AN_END)}, samples: .., repeats: 1}} before it")
        finite = finite or regime.kind in MAKE_AN_END
        samples = cut(REGIMES[regime.kind](samples, regime, generator(seed, regime.kind, before[regime.kind])), CHUNK)
        before[regime.kind] += 1
    return samples


def generator(seed: int, kind: str, before: int) -> np.random.Generator:
    """Return the random generator of a regime: of its kind, and of how many of the kind stand before it.

    So a regime that is added, wherever in the list, leaves the random choices of all others as they were.
    """
    if (kind, before) == ("single-pass", 0):
        return np.random.default_rng(seed)  # as when it was the only regime: published orders stay
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(*kind.encode(), before)))
