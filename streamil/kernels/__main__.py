"""Compiles the kernels for this machine's CPU, so that no first sample waits for it: `python -m streamil.kernels`."""

from __future__ import annotations

import numpy as np

from streamil.kernels.cpu.kfac_populations import RULES
from streamil.kernels.cpu.populations import FORMS
from streamil.learners import create

if __name__ == "__main__":
    for rule in (*FORMS, *RULES):
        create(rule.algorithm, [2, 2, 2]).learn(np.zeros((1, 2), np.float32), np.zeros(1, np.int64))
