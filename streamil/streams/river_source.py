"""Data sets and generators of river, by their class name."""

from __future__ import annotations

import inspect

from streamil.errors import SourceError
from streamil.experiment.sources import RiverSource
from streamil.experiment_file import nearest
from streamil.streams.python_source import sampled
from streamil.streams.source import Opened
from streamil.user_code import first_line


def river_source(source: RiverSource, seed: int) -> Opened:
    """Open a data set of `river.datasets` or `river.datasets.synth`; its seeds are the stream's unless options say.

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
    # some have two, of what they draw once and of the samples: no two are one, lest they draw the same numbers
    names = [name for name in inspect.signature(made).parameters if name == "seed" or name.startswith("seed_")]
    options = {name: seed + place for place, name in enumerate(names)} | source.options
    try:
        data = made(**options)
    except Exception as error:
        raise SourceError(f"{where}: options {source.options}: {first_line(error)}") from None
    return Opened(sampled(lambda: data, where), finite=data.n_samples is not None)
