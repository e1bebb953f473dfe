"""What every rule has to pass: a check is a plain function of the rule's name, called after what it holds the rule to.

`yield_checks` says which checks a rule gets, by what it can do; `apply` applies one. What a rule is allowed that others
are not stands in `rules.ALLOWED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from checks import edges, learning, state
from checks.rules import allowance
from streamil.learners import learner_class
from streamil.learners.activations import ACTIVATIONS
from streamil.learners.stacked import StackedPopulation

Check = Callable[[str], None]


def yield_checks(algorithm: str) -> Iterator[Check]:
    """Yield what the rule has to pass."""
    rule = learner_class(algorithm)
    yield learning.members_do_not_know_of_each_other
    yield from _each(learning.predict_is_feedforward_and_changes_nothing, growing=[False, True])
    yield from _each(learning.learn_does_not_depend_on_how_samples_are_cut_into_calls, size=[1, 2, 5])
    yield learning.classes_met_midway_equal_rows_there_from_the_start
    yield learning.unmet_classes_take_no_part
    yield learning.nothing_moves_before_two_classes_are_live
    yield learning.composite_keeps_the_order_of_its_members
    yield learning.biases_can_stay
    yield from _each(learning.one_layer_and_ten_learn, layers=[[6, 3], [6, 5, 4, 5, 4, 5, 4, 5, 4, 5, 3]])
    yield from _each(state.state_round_trip_repeats_the_next_outcomes, mixed=[False, True])
    yield state.state_is_copied_and_wrong_states_change_nothing
    yield from _each(state.module_gives_the_same_logits, activation=sorted(ACTIVATIONS))
    yield from _each(state.a_diverging_member_stops_alone_at_its_last_finite_weights, dtype=["float32", "float64"])
    yield state.checking_every_element_gives_the_same_numbers
    yield state.no_move_is_longer_than_the_rule_says
    if rule.numbers_held.__func__ is StackedPopulation.numbers_held.__func__:  # it holds nothing of other shapes
        yield state.numbers_held_are_those_of_weights_and_slots
    yield edges.wrong_arguments_are_named_and_change_nothing
    yield edges.wrong_settings_are_named
    yield edges.rates_are_positive_numbers
    yield edges.inputs_of_any_kind_give_the_same
    yield edges.empty_call_changes_nothing


def apply(check: Check, algorithm: str) -> None:
    """Hold the rule to the check."""
    with pytest.MonkeyPatch.context() as patch:
        for target in allowance(algorithm).patches:
            patch.setattr(*target)
        check(algorithm)


def name_of(check: Check) -> str:
    """Return the check's name, and what it is tried with."""
    if isinstance(check, partial):
        return "-".join([check.func.__name__, *(str(value) for value in check.keywords.values())])
    return check.__name__


def _each(check: Callable[..., None], **choice: list[Any]) -> Iterator[Check]:
    for name, values in choice.items():
        yield from (partial(check, **{name: value}) for value in values)
