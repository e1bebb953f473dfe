"""The comparisons of a race, told who was right as the arms get there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamil.arms import ArmPlan, plan_comparisons, plan_controls
from streamil.evaluation import Comparison, allot
from streamil.experiment import Experiment
from streamil.state_entries import entries, part, whole


class Comparisons(dict[tuple[str, str], Comparison]):
    """Comparisons by (challenger, baseline), each at its share of `verdict.alpha`; those with A/A controls beside.

    A comparison with a control states nothing, so it takes no share of alpha from the others; its own is as large.

    Parameters
    ----------
    experiment
        What is compared.
    arms
        The arms that take part here, by name.
    all_arms
        All arms of the experiment: the shares are the same wherever its arms learn.

    Attributes
    ----------
    controls
        Those of them that compare an arm with its A/A control.
    since
        Labelled samples of the stream before the first that counts: 0, unless it was added to a race that had begun.
    """

    def __init__(self, experiment: Experiment, arms: Mapping[str, ArmPlan], all_arms: Sequence[ArmPlan]) -> None:
        stated, controls = plan_comparisons(experiment, all_arms), plan_controls(all_arms)
        share = allot(experiment.verdict.alpha, max(len(stated), 1))
        pairs = [pair for pair in [*stated, *controls] if pair.challenger in arms and pair.baseline in arms]
        self.controls = {(pair.challenger, pair.baseline) for pair in controls}
        super().__init__({
            (pair.challenger, pair.baseline): Comparison(
                arms[pair.challenger].candidates, arms[pair.baseline].candidates, share)
            for pair in pairs
        })
        self.since = dict.fromkeys(self, 0)

    def tell(self, arm: str, correct: NDArray[np.bool_], segment: NDArray[np.int64], place: int) -> None:
        """Take in who of the arm's members was right [A, N], on labelled samples from `place` on."""
        for (challenger, baseline), comparison in self.items():
            early = max(0, self.since[challenger, baseline] - place)
            if arm == challenger:
                comparison.add_challenger(correct[:, early:], segment[early:])
            if arm == baseline:
                comparison.add_baseline(correct[:, early:], segment[early:])

    def state_dict(self) -> list[dict[str, Any]]:
        """Return copies of all of it."""
        return [{"challenger": pair[0], "baseline": pair[1], "since": self.since[pair], "sums": one.state_dict()}
                for pair, one in self.items()]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]], end: int) -> None:
        """Take over the state of those that it holds; the others begin with the labelled sample `end`.

        Raises
        ------
        StateError
            For a state that does not fit; the object is then of no further use.
        """
        saved = {(one["challenger"], one["baseline"]): one for one in state}
        for pair, comparison in self.items():
            self.since[pair] = end
            if pair in saved:
                with part(f"comparison {pair[0]} against {pair[1]}"):
                    entries(saved[pair], ("challenger", "baseline", "since", "sums"))
                    self.since[pair] = whole(saved[pair], "since")
                    comparison.load_state_dict(saved[pair]["sums"])
