"""Data sets and generators of river, by their class name."""

from __future__ import annotations

import inspect

from streamil.errors import SourceError
from streamil.experiment.sources import RiverSource
from streamil.experiment_file import nearest
from streamil.streams.python_source import sampled
from streamil.streams.source import Opened


def river_source(source: RiverSource, seed: int) -> Opened:
    """Open a data set of `river.datasets` or `river.datasets.synth`; its `seed` is the stream's unless options say.

    Raises
    ------
    SourceError
        When river is not installed, knows no such data set, or refuses the options.
    """
    try:
        from river import datasets
    except ImportError:
        raise SourceError("river is not installed; pip install 'streamil[river]'") from None
    known = {name: getattr(datasets, name) for name in datasets.__all__ if inspect.isclass(getattr(datasets, name))}
    known |= {f"synth.{name}": getattr(datasets.synth, name) for name in datasets.synth.__all__}
    made = known.get(source.name) or known.get(f"synth.{source.name}")
    where = f"river {source.name}"
    if made is None or inspect.isabstract(made):
        raise SourceError(f"{where}: unknown data set{nearest(source.name, known)}; see river.datasets")
    options = dict(source.options)
    if "seed" in inspect.signature(made).parameters:
        options.setdefault("seed", seed)
    try:
        data = made(**options)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{where}: options {source.options}: {error}") from None
    return Opened(sampled(lambda: data, where), finite=data.n_samples is not None)
