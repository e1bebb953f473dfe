"""The race in one process, without Kafka: the same samples, the same numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamil.errors import SourceError
from streamil.experiment import Experiment
from streamil.log import Event, Tell, nobody
from streamil.race import PIECE, Race
from streamil.report.lines import REJECTS_TOLD
from streamil.results import require_folder, summary, write_results, writing
from streamil.samples import Records
from streamil.streams import open_stream


def run(experiment: Experiment, *, limit: int | None = None, out: Path | None = None,
        on_progress: Callable[[Race], None] = lambda race: None, tell: Tell = nobody,
        stop: threading.Event | None = None) -> dict[str, Any]:
    """Race the experiment's arms on its stream and return what `summary.json` holds.

    Parameters
    ----------
    experiment
        What to race.
    limit
        Samples of the stream to take, where the file asks for more.
    out
        Folder for `summary.json`, `curve.parquet` and `accuracy.png`.
    on_progress
        Called with the race after every piece.
    tell
        Takes one line about each of the first rejected samples, features whose kind is doubtful, and what was rejected
        or skipped in all.
    stop
        Ends the race early when set; what was learned so far is the result.

    Raises
    ------
    ExperimentError, SourceError
        When the file or its source is wrong, or the stream is empty.
    ReportError
        When `out` cannot be written to; before anything is learned where that shows by then.

    Examples
    --------
    >>> from streamil.experiment import Experiment
    >>> experiment = Experiment.model_validate({
    ...     "stream": {"source": {"kind": "elec"}, "limit": 200},
    ...     "arms": {"il": {"algorithm": "il-prox", "alpha": 0.1}, "bp": {"algorithm": "bp-sgd"}}})
    >>> result = run(experiment)
    >>> result["samples"], result["comparisons"][0]["samples"]
    (200, 200)
    """
    experiment.require_own_stream()
    if out is not None:
        require_folder(out)
        from streamil.report.plot import plot_accuracy  # now: after a Ctrl-C there is no time for large imports
    race = Race(experiment)
    race.prepare(tell)
    stop = stop or threading.Event()
    wanted = min((size for size in (limit, experiment.stream.limit) if size is not None), default=None)
    ordinal = 0
    stream = open_stream(experiment.stream, experiment.folder)
    for piece in _pieces(stream, wanted):
        if stop.is_set():
            break
        ordinals = np.arange(ordinal, ordinal + len(piece), dtype=np.int64)
        begun = race.featurizer.inputs is not None
        for rejected in race.feed(piece, ordinals):
            if sum(race.rejected.values()) <= REJECTS_TOLD:
                what = "late label" if piece.late else f"sample {ordinal + rejected.index}"
                tell(Event(f"{what}: rejected ({rejected.reason}): {rejected.detail}", level="warning",
                           reason=rejected.reason))
        for line in race.featurizer.doubts if not begun else ():
            tell(Event(line, level="warning"))
        ordinal += 0 if piece.late else len(piece)
        on_progress(race)
    if ordinal == 0 and not stop.is_set():
        raise SourceError(f"{experiment.stream.source.kind} source: it holds no sample")
    for line in stream.skipped.told():
        tell(line)
    told = ", ".join(f"{reason} {count}" for reason, count in race.rejected.items() if count)
    if told:
        tell(Event(f"rejected: {told}", level="warning"))
    if out is None:
        return summary(race)
    result = write_results(race, out)
    with writing(out):
        plot_accuracy(out)
    return result


def _pieces(stream: Iterator[Records], wanted: int | None) -> Iterator[Records]:
    """Yield the stream in pieces that are short enough to look at `stop` between them."""
    left = wanted
    for records in stream:
        for first in range(0, len(records), PIECE):
            if left == 0:
                return
            piece = records[first:first + PIECE]
            if not piece.late:
                piece = piece[:left]
                left = None if left is None else left - len(piece)
            yield piece
