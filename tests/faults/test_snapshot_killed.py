"""A process that is killed with SIGKILL while it saves snapshots: the folder always gives one whole state."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from streamil.snapshot import FolderStore

WRITER = """
import sys, pathlib
import numpy as np
from streamil.snapshot import FolderStore, pack
size = 500_000
with FolderStore(pathlib.Path(sys.argv[1]), keep=2) as store:
    found = store.load()
    ordinal = found[1]["ordinal"] if found else 0
    print(ordinal, flush=True)
    while True:
        ordinal += 1
        store.save(pack({"w": np.full(size, ordinal), "n": ordinal}, {"ordinal": ordinal}))
        print(ordinal, flush=True)
"""


def kill_while_saving(folder: Path, kills: int) -> int:
    """Kill writers at random moments, look at what each leaves, and return how many left an unfinished file."""
    rng, unfinished = np.random.default_rng(), 0
    for _ in range(kills):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            started = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.3))
            assert process.poll() is None
            process.kill()
            confirmed = [started, *map(int, process.stdout.read().split())][-1]
        unfinished += any(path.name.endswith(".tmp") for path in folder.iterdir())
        told: list[str] = []
        with FolderStore(folder, keep=2, tell=told.append) as store:
            assert not told and not any(path.name.endswith(".tmp") for path in folder.iterdir())
            found = store.load()
            assert len(store.paths()) <= 3  # killed before the oldest was removed
        assert not told
        if found is None:
            assert confirmed == 0
            continue
        state, meta = found
        assert meta["ordinal"] == state["n"] and (state["w"] == state["n"]).all() and len(state["w"]) == 500_000
        assert confirmed <= state["n"] <= confirmed + 1  # what was confirmed stays
    return unfinished


def test_a_killed_writer_leaves_a_whole_state(tmp_path):
    kill_while_saving(tmp_path, 5)


@pytest.mark.slow
def test_writers_that_are_killed_thirty_times_leave_a_whole_state(tmp_path):
    assert kill_while_saving(tmp_path, 30) > 0  # otherwise no kill came in the middle
