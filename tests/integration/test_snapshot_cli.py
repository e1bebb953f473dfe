"""`streamil snapshot`: what a snapshot holds, and whether it is whole."""

from __future__ import annotations

import numpy as np
import torch
from processes import streamil

from streamil.snapshot import pack

STATE = {"arms": {"il": {"w": torch.zeros(2, 3), "seen\x1b[31m": np.arange(4)}}, "labels": ["a", "b"], "hash": b"abcd", "n": 3,
         "parts": [{"b": torch.tensor(True)}], "none": {}}


def test_inspect_shows_meta_and_entries(tmp_path):
    path = tmp_path / "a.snapshot"
    path.write_bytes(pack(STATE, {"experiment": "größe", "ordinal": 5000, "odd": "\ud800\n"}))
    shown = streamil("snapshot", "inspect", path)
    assert shown.returncode == 0 and not shown.stderr
    assert shown.stdout == """\
experiment  größe
ordinal     5000
odd         \\ud800\\n

name                  shape   type            bytes
arms.il.w             2 x 3   tensor float32     24
arms.il.seen\\x1b[31m  4       array int64        32
labels                2       list                0
hash                  4       bytes               4
n                             int                 0
parts[0].b            scalar  tensor bool         1
none                  0       dict                0

7 entries, 61 bytes of arrays
"""


def test_verify_says_of_each_whether_it_is_whole(tmp_path):
    whole, damaged, missing = tmp_path / "whole", tmp_path / "damaged", tmp_path / "missing"
    whole.write_bytes(pack(STATE, {}))
    damaged.write_bytes(whole.read_bytes()[:-1])
    shown = streamil("snapshot", "verify", whole, damaged, missing)
    assert shown.returncode == 1 and not shown.stderr
    assert [line.partition(": ")[::2] for line in shown.stdout.splitlines()] == [
        (str(whole), "whole, 7 entries, 61 bytes of arrays"),
        (str(damaged), f"the snapshot is damaged: its checksum does not hold; {damaged.stat().st_size} bytes are there "
                       f"of {whole.stat().st_size}"),
        (str(missing), "cannot be read: No such file or directory")]
    assert streamil("snapshot", "verify", whole, whole).returncode == 0


def test_what_cannot_be_shown_is_one_line(tmp_path):
    for arguments, code in (("inspect", tmp_path / "missing"), 1), (("inspect",), 2), (("verify",), 2), (("export", "a"), 2):
        failed = streamil("snapshot", *arguments)
        assert failed.returncode == code and "Traceback" not in failed.stderr
    assert streamil("snapshot", "inspect", tmp_path / "missing").stderr == f"error: {tmp_path / 'missing'}: cannot be read: No such file or directory\n"
