"""An experiment's stream: source, then regimes, then limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from streamil.errors import SourceError
from streamil.experiment import Stream, sources
from streamil.samples import Records
from streamil.streams import chunks, idx
from streamil.streams.npz import npz
from streamil.streams.parquet import parquet
from streamil.streams.python_source import python_source
from streamil.streams.regimes import reshape
from streamil.streams.river_source import river_source
from streamil.streams.source import Opened
from streamil.streams.table import csv_header, csv_table


class OpenStream(Iterator[Records]):
    """The samples of a stream, chunk by chunk.

    Attributes
    ----------
    skipped
        Bad rows left out so far, where the source was told to skip them: `count`, and the first few `details`.
    live
        Whether the source cannot be read again: another call yields other samples.
    """

    def __init__(self, stream: Stream, folder: Path) -> None:
        source = open_source(stream, folder)
        self.live = source.live
        self.skipped = source.skipped
        try:
            samples = reshape(source.chunks, stream.regimes, stream.seed, finite=source.finite)
        except SourceError as error:
            raise SourceError(f"{stream.source.kind}: {error}") from None
        self._chunks = chunks.limit(chunks.cut(samples, chunks.CHUNK), stream.limit)

    def __next__(self) -> Records:
        return next(self._chunks)


def open_stream(stream: Stream, folder: Path) -> OpenStream:
    """Return the stream's samples in order: source, then regimes, then limit.

    Parameters
    ----------
    stream
        The stream of an experiment.
    folder
        What relative paths are relative to, and where a Python source's module is looked for.

    Raises
    ------
    SourceError
        When a file is absent, damaged or not what it says; from here or while iterating.

    Examples
    --------
    >>> stream = Stream.model_validate({"source": {"kind": "elec"}, "limit": 2})
    >>> [(list(records.columns)[:2], list(records.y)) for records in open_stream(stream, Path())]
    [(['period', 'nswprice'], ['1', '1'])]
    """
    return OpenStream(stream, folder)


def open_source(stream: Stream, folder: Path) -> Opened:
    """Open the source that the experiment file names; see `open_stream`."""
    source = stream.source
    if isinstance(source, sources.MnistSource):
        return Opened(idx.mnist(source.part))
    if isinstance(source, sources.ElecSource | sources.WeatherSource):
        path = idx.DATA / f"{source.kind}.csv.gz"
        return csv_table(sources.CsvSource(kind="csv", path=path, label=csv_header(path)[-1]), path,
                         stream.features)
    if isinstance(source, sources.IdxSource):
        return Opened(idx.idx(folder / source.images, folder / source.labels))
    if isinstance(source, sources.NpzSource):
        return Opened(npz(folder / source.path))
    if isinstance(source, sources.RiverSource):
        return river_source(source, stream.seed)
    if isinstance(source, sources.PythonSource):
        return python_source(source, folder)
    if isinstance(source, sources.TopicSource):
        raise SourceError("stream.source: others fill this topic; `streamil consume` learns from it")
    read: Callable[..., Opened] = csv_table if isinstance(source, sources.CsvSource) else parquet
    return read(source, folder / source.path, stream.features)
