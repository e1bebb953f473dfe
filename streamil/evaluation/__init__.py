"""Test-then-train evaluation: prequential metrics, and what they say over time and of two arms.

Nothing here knows learners or streams. All of it is independent of how samples are cut into calls, bit for bit.
"""

from streamil.evaluation.comparison import Comparison, allot
from streamil.evaluation.confusion import CLASSES_LIMIT, Confusion
from streamil.evaluation.curve import Curve
from streamil.evaluation.drift import Drift
from streamil.evaluation.forgetting import Forgetting
from streamil.evaluation.paired_test import PairedTest, decide
from streamil.evaluation.points import Points
from streamil.evaluation.prequential import Prequential
from streamil.evaluation.speed import Speed

__all__ = ["CLASSES_LIMIT", "Comparison", "Confusion", "Curve", "Drift", "Forgetting", "PairedTest", "Points",
           "Prequential", "Speed", "allot", "decide"]
