"""Streams of labelled samples: sources (files, data sets, Python), regimes that reshape them, and packing.

`open_stream` yields the samples of an experiment's stream as `Records` in chunks of any size; `pack` cuts them into
records of one size. Both are deterministic: the same settings give the same samples in the same order.
"""

from __future__ import annotations

from streamil.streams.chunks import pack
from streamil.streams.stream import OpenStream, open_stream

__all__ = ["OpenStream", "open_stream", "pack"]
