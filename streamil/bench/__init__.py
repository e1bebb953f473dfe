"""What an update costs on this machine, beside torch's own backpropagation: measured here, told as a table.

Whoever is compared is measured turn about, in one process, on the same records of real digits. Absolute times vary
between machines and minutes, so ratios come first.
"""

from __future__ import annotations

from streamil.bench.end_to_end import measure_end_to_end
from streamil.bench.findings import Findings
from streamil.bench.first_call import measure_first_calls
from streamil.bench.learners import measure_learners
from streamil.bench.plan import ALGORITHMS, Plan, Subject
from streamil.bench.table import result_text

__all__ = ["ALGORITHMS", "Findings", "Plan", "Subject", "measure_end_to_end", "measure_first_calls",
           "measure_learners", "result_text"]
