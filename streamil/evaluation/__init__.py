"""Test-then-train evaluation: prequential metrics, paired sequential test, comparisons of arms, curves, speed, drift.

Nothing here knows learners or streams. All of it is independent of how samples are cut into calls, bit for bit.
"""

from streamil.evaluation.comparison import Comparison, allot
from streamil.evaluation.curve import Curve
from streamil.evaluation.drift import Drift
from streamil.evaluation.paired_test import PairedTest
from streamil.evaluation.prequential import Prequential
from streamil.evaluation.speed import Speed

__all__ = ["Comparison", "Curve", "Drift", "PairedTest", "Prequential", "Speed", "allot"]
