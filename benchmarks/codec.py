"""What one core decodes and encodes: MNIST samples a second, medians of several turns.

python benchmarks/codec.py [--seconds 1] [--turns 5]

Pixels are uint8 as MNIST has them; "floats" are the same divided by 255, as float32 (in JSON up to 17 digits each).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from streamil.codec import decode, encode
from streamil.experiment import Stream
from streamil.samples import Records
from streamil.streams import open_stream

CASES = [(codec, inputs, size) for codec in ("json", "arrow") for inputs in ("pixels", "floats") for size in (1, 8, 64)]


def records_of(inputs: str, size: int) -> Records:
    """Return the first `size` images of MNIST."""
    stream = Stream.model_validate({"source": {"kind": "mnist"}, "limit": size})
    (records,) = open_stream(stream, Path())
    assert records.x is not None
    return records if inputs == "pixels" else Records(y=records.y, x=(records.x / 255).astype(np.float32))


def rate(call: Callable[[], object], size: int, seconds: float, turns: int) -> float:
    """Return samples per second of processor time, the median of the turns."""
    rates = []
    for _ in range(turns):
        count, start, began = 0, time.process_time(), time.perf_counter()
        while time.perf_counter() - began < seconds:
            call()
            count += 1
        rates.append(count * size / (time.process_time() - start))
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; samples per second of processor time")
    for codec, inputs, size in CASES:
        records = records_of(inputs, size)
        data = encode(records, codec)
        decoded, encoded = (rate(call, size, options.seconds, options.turns)
                            for call in (lambda data=data: decode(data),
                                         lambda records=records, codec=codec: encode(records, codec)))
        print(f"{codec:5s} {inputs} {size:2d} a record, {len(data) / size:6.0f} bytes a sample: "
              f"decode {decoded:9,.0f}, encode {encoded:9,.0f}", flush=True)
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
