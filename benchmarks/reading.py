"""Reads a generated file as a producer does, encoded records included and torch left out: rate and resident memory.

python benchmarks/reading.py                              # every form below, 300 MB of each
python benchmarks/reading.py csv gzip --megabytes 10000
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FORMS = ("csv", "gzip", "parquet", "long-rows")
ROWS = 5_000
"""Rows that are generated once and written over and over."""
READ = """
import json, sys, time
from streamil.codec import encode
from streamil.experiment import Stream
from streamil.streams import open_stream, pack
from pathlib import Path

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

before, start, samples = status("VmRSS"), time.perf_counter(), 0
for records in pack(open_stream(Stream.model_validate(json.loads(sys.argv[1])), Path()), 64):
    samples += len(encode(records, "arrow")) and len(records)
assert "torch" not in sys.modules
print(json.dumps({"samples": samples, "seconds": time.perf_counter() - start,
                  "imports_mib": before, "peak_mib": status("VmHWM")}))
"""


def measure(form: str, megabytes: int, folder: Path) -> dict[str, float]:
    """Write a file of this form and size, read it in a process of its own, and return what that took.

    Returns
    -------
    dict
        `file_mb`, `samples`, `seconds`, `imports_mib` and `peak_mib`: resident memory after the imports, and at most.
    """
    path, source = WRITERS[form](folder / f"data-{form}", megabytes)
    stream = {"source": {**source, "path": str(path), "label": "label"}, "features": {"at": "time", "code": "category"}}
    done = subprocess.run([sys.executable, "-c", READ, json.dumps(stream)], capture_output=True, text=True, check=True)
    return {"file_mb": path.stat().st_size / 1e6, **json.loads(done.stdout)}


def _rows(text: int) -> dict[str, list[object]]:
    random = np.random.default_rng(0)
    numbers = {f"n{place}": random.normal(size=ROWS).round(6).tolist() for place in range(10)}
    return {**numbers, "at": [f"2024-05-01T12:00:{n % 60:02}Z" for n in range(ROWS)],
            "code": [f"c{n % 40}" for n in range(ROWS)],
            "text": [f"{n:06}-" * (text // 7) for n in range(ROWS)], "label": [str(n % 3) for n in range(ROWS)]}


def _csv(path: Path, megabytes: int, text: int = 21,
         opened: Callable[..., object] = open) -> tuple[Path, dict[str, object]]:
    rows = _rows(text)
    block = "".join(",".join(map(str, row)) + "\n" for row in zip(*rows.values(), strict=True)).encode()
    with opened(path, "wb") as file:  # type: ignore[attr-defined]
        file.write((",".join(rows) + "\n").encode())
        for _ in range(max(1, megabytes * 1_000_000 // len(block))):
            file.write(block)
    return path, {"kind": "csv"}


def _gzip(path: Path, megabytes: int) -> tuple[Path, dict[str, object]]:
    return _csv(path, megabytes, opened=lambda name, mode: gzip.open(name, mode, compresslevel=1))


def _long_rows(path: Path, megabytes: int) -> tuple[Path, dict[str, object]]:
    return _csv(path, megabytes, text=20_000)


def _parquet(path: Path, megabytes: int) -> tuple[Path, dict[str, object]]:
    """Write one row group, which a reader that takes whole groups would hold in memory."""
    block = pa.table(_rows(21))
    count = max(1, megabytes * 1_000_000 // block.nbytes)
    table = pa.concat_tables([block] * count)
    pq.write_table(table, path, row_group_size=len(table), use_dictionary=False, compression="none")
    return path, {"kind": "parquet"}


WRITERS = {"csv": _csv, "gzip": _gzip, "parquet": _parquet, "long-rows": _long_rows}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forms", nargs="*", choices=[*FORMS, []], default=[])
    parser.add_argument("--megabytes", type=int, default=300, help="before compression")
    options = parser.parse_args()
    for form in options.forms or FORMS:
        with tempfile.TemporaryDirectory() as folder:
            got = measure(form, options.megabytes, Path(folder))
        print(f"{form}: {got['samples']:,} samples of {got['file_mb']:.0f} MB in {got['seconds']:.0f} s; resident "
              f"{got['imports_mib']:.0f} MiB after imports, {got['peak_mib']:.0f} MiB at most", flush=True)


if __name__ == "__main__":
    main()
