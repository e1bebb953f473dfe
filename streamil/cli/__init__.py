"""The command line: the composition root. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

from streamil.cli import bench, dead_letters, learn, race, results, snapshots, status
from streamil.cli.app import app, main

__all__ = ["app", "bench", "dead_letters", "learn", "main", "race", "results", "snapshots", "status"]
