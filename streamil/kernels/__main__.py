"""Compiles the kernels for this machine's CPU, so that no first sample waits for it: `python -m streamil.kernels`."""

from __future__ import annotations

from streamil.kernels import prepare

if __name__ == "__main__":
    prepare(None)
