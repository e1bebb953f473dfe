"""`streamil bench`: everybody who was asked for is there or named with a reason, and the figures are what was measured."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from streamil.bench import Findings, Plan, Subject, first_call, learners, measure_first_calls, opponents, result_text
from streamil.bench.end_to_end import Clock, rates
from streamil.bench.findings import Absent
from streamil.bench.table import COLUMNS
from streamil.bench.turns import Contestant, clock_of, take_turns
from streamil.errors import ExperimentError

RULES = ("il-prox,inference_steps=2", "bp-kfac")
TINY = Plan([Subject.parse(text) for text in RULES], batch_sizes=(1, 8), members=(1, 2), hidden=(4,), seconds=60.0, turns=2,
            turn_seconds=0.0, compiled=False)


def nothing(part: float, what: str) -> None:
    pass


def measured(plan: Plan = TINY, stop: threading.Event | None = None, tell: Any = nothing) -> dict[str, Any]:
    findings = Findings()
    learners.measure_learners(plan, findings, stop=stop or threading.Event(), tell=tell)
    return findings.result(plan)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return measured()


def keys(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {(row["rule"], row["way"], row["members"], row["batch_size"]) for row in rows}


def test_everybody_is_measured_or_named_with_a_reason(result: dict[str, Any]) -> None:
    wanted = {(rule, way, members, size) for size in (1, 8) for rule, way, members in [
        ("torch BP-SGD", "eager", 1), ("torch BP-Adam", "eager", 1),
        (RULES[0], "kernel", 1), (RULES[0], "kernel", 2), (RULES[0], "plain", 1)]}
    plain = {("bp-kfac", "plain", members, size) for size in (1, 8) for members in (1, 2)}
    found, missing = keys(result["learners"]), keys(result["not_measured"])
    assert wanted <= found and (plain <= found or ("bp-kfac", "kernel", 1, 1) in found)
    compiled = {(f"torch {rule}", "compiled", 1, size) for rule in ("BP-SGD", "BP-Adam") for size in (1, 8)}
    assert compiled <= missing and ("SoftmaxRegression (no hidden layer)", "river", 1, 8) in missing
    assert ("SoftmaxRegression (no hidden layer)", "river", 1, 1) in found | missing
    assert len(result["learners"]) == len(found) and all(row["turns"] == 2 and row["diverged"] == 0 for row in result["learners"])
    assert all(one["reason"] for one in result["not_measured"])


def test_libraries_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opponents, "installed", lambda package: None)
    text = result_text(measured())
    for package in ("river", "deep-river"):
        assert f"at mini-batches of 1, 8, members 1: {package} is not installed" in text


def test_what_a_library_raises_is_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any) -> None:
        raise RuntimeError("other version\nand more")

    def no_compiler(function: Any, dynamic: bool) -> Callable[..., Any]:
        def call(*given: Any) -> None:
            raise RuntimeError("no C++ compiler")
        return call

    monkeypatch.setattr(opponents, "river_learner", fail)
    monkeypatch.setattr(torch, "compile", no_compiler)
    plan = Plan(TINY.subjects[:1], batch_sizes=(1,), members=(1,), hidden=(4,), turns=2, turn_seconds=0.0)
    reasons = {(one["rule"], one["way"]): one["reason"] for one in measured(plan)["not_measured"]}
    assert reasons["SoftmaxRegression (no hidden layer)", "river"] == "RuntimeError: other version"
    assert reasons["torch BP-SGD", "compiled"] == reasons["torch BP-Adam", "compiled"] == "RuntimeError: no C++ compiler"


def test_json_is_strict_and_has_ratios_first_and_the_figures_of_the_table(result: dict[str, Any]) -> None:
    text = json.dumps(result, allow_nan=False)
    assert json.loads(text) == result and next(iter(result)) == "learners"
    names = list(result["learners"][0])
    assert names.index("ratio_to_bp_sgd") < names.index("update") < names.index("member_sample")
    shown = {}
    for block in result_text(result).split("\n\n"):
        title, *lines = block.splitlines()
        if found := re.match(r"mini-batches of (\d+): cost", title):
            rows = [re.split(r" {2,}", line.strip()) for line in lines]
            assert rows[0] == list(COLUMNS)
            shown |= {(rule, way, int(members), int(found[1])): list(map(number, cells)) for rule, way, members, *cells in rows[1:]}
    assert set(shown) == keys(result["learners"])
    for row in result["learners"]:
        update = row["update"]
        assert shown[row["rule"], row["way"], row["members"], row["batch_size"]] == pytest.approx(
            [row["ratio_to_bp_sgd"], row["ratio_to_bp_adam"], update["median"], update["lowest"], update["highest"],
             row["member_sample"]["median"]], rel=0.05)


def number(cell: str) -> float:
    value, _, unit = cell.partition(" ")
    return float(value) * {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}[unit]


def contestant(rule: str, way: str, members: int, batch_size: int, *seconds: float) -> Contestant:
    return Contestant(rule, way, members, batch_size, lambda x, y: None, [], seconds=list(seconds))


def test_ratios_are_quotients_of_medians_of_one_member() -> None:
    findings = Findings([
        contestant("torch BP-SGD", "eager", 1, 8, 2e-3, 9e-3, 1e-3), contestant("torch BP-Adam", "eager", 1, 8, 4e-3, 5e-3, 1e-3),
        contestant("torch BP-SGD", "eager", 1, 1, 7e-3), contestant("torch BP-SGD", "compiled", 1, 8, 5e-3),
        contestant("il-prox", "kernel", 4, 8, 6e-3, 4e-3, 1e-2), contestant("il-prox", "kernel", 1, 2, 1e-3),
        contestant("il-sgd", "kernel", 1, 8)], [Absent("x", "y", 1, 8, "why")])
    rows = json.loads(json.dumps(findings.result(TINY), allow_nan=False))["learners"]
    ours = rows[4]
    assert (ours["ratio_to_bp_sgd"], ours["ratio_to_bp_adam"]) == pytest.approx((0.75, 0.375))  # 6 ms / 4 members over 2 and 4 ms
    assert ours["update"] == {"median": 6e-3, "lowest": 4e-3, "highest": 1e-2}
    assert ours["member_sample"] == pytest.approx({"median": 6e-3 / 32, "lowest": 4e-3 / 32, "highest": 1e-2 / 32})
    assert rows[5]["ratio_to_bp_sgd"] is None and len(rows) == 6  # no torch at that size; no turn taken
    for row in rows[:5]:
        base = next(one for one in rows if one["rule"] == "torch BP-SGD" and one["way"] == "eager" and one["batch_size"] == row["batch_size"])
        assert row["ratio_to_bp_sgd"] == pytest.approx(row["update"]["median"] / row["members"] / base["update"]["median"])


def test_turns_are_taken_by_all_there_and_back() -> None:
    taken: list[str] = []
    records = [(torch.zeros(2, 1), torch.zeros(2))]
    all_of_them = [Contestant(name, "eager", 1, 1, lambda x, y, name=name: taken.append(name), records) for name in "abc"]
    take_turns(all_of_them, clock_of("cpu"), most=3, seconds=60.0, stop=threading.Event(), tell=nothing)
    assert "".join(taken) == "abc" + "cba" + "abc" and all(len(one.seconds) == 3 for one in all_of_them)
    take_turns(all_of_them, clock_of("cpu"), most=3, seconds=0.0, stop=threading.Event(), tell=nothing)
    assert len(taken) == 12


def test_one_update_is_what_is_told() -> None:
    moments = itertools.count()  # each look at the clock is a second later
    one = Contestant("a", "eager", 1, 4, lambda x, y: None, [(torch.zeros(8, 1), torch.zeros(8))])
    assert one.warm_up(lambda: next(moments), 2.5) == 3 and one.first_call == 1  # three calls of a second
    one.take_turn(lambda: next(moments))
    assert one.seconds == [0.5]  # two updates a call


@pytest.mark.parametrize(("period", "warm", "turn"), [(1, 3, 1), (12, 8, 3), (16, 10, 2)])
def test_who_costs_more_now_and_then_is_measured_over_whole_periods(period: int, warm: int, turn: int) -> None:
    taken: list[int] = []
    records = [(torch.zeros(8, 1), torch.zeros(8))]
    one = Contestant("a", "kernel", 1, 1, lambda x, y: taken.append(len(y)), records, period=period)
    one.warm_up(lambda: float(len(taken)), 0.5)
    assert len(taken) == warm
    one.take_turn(lambda: float(len(taken)))
    assert len(taken) - warm == turn and turn * 8 % period == 0


def test_the_clock_of_a_gpu_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[None] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(None))
    assert clock_of("cuda")() > 0 and len(waited) == 1
    assert clock_of("cpu")() > 0 and len(waited) == 1


def test_what_is_stopped_leaves_what_was_measured() -> None:
    stop, before = threading.Event(), torch.get_num_threads()
    torch.set_num_threads(2)

    def tell(part: float, what: str) -> None:
        if what.startswith("mini-batches of 8: turn 1"):
            stop.set()

    try:
        result = measured(stop=stop, tell=tell)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    at_one = [row for row in result["learners"] if row["batch_size"] == 1]
    assert len(at_one) >= 6 and all(row["turns"] == 2 for row in at_one)
    assert [row["turns"] for row in result["learners"] if row["batch_size"] == 8] == [1]  # the one that was being measured
    assert not result["complete"] and result_text(result).endswith("interrupted: this is what was measured so far")


def test_an_answer_stands_first(result: dict[str, Any]) -> None:
    line, ratio = result_text(result).splitlines()[0], result["learners"][2]["ratio_to_bp_sgd"]
    assert line.startswith("mini-batches of 1: an update costs " + ("less" if ratio < 1 else "more"))


def test_diverged_members_are_told() -> None:
    plan = Plan([Subject.parse("bp-sgd,learning_rate=1e30")], batch_sizes=(8,), members=(1,), hidden=(4,), seconds=0.0, turns=1,
                turn_seconds=0.0, compiled=False)
    result = measured(plan)
    assert {row["rule"]: row["diverged"] for row in result["learners"] if row["way"] == "kernel"} == {plan.subjects[0].text: 1}
    assert "(1 diverged)" in result_text(result)


def test_a_population_larger_than_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "memory_left", lambda: 1000)
    missing = {one["rule"]: one["reason"] for one in measured()["not_measured"]}
    assert "more than half the memory left" in missing[RULES[0]]


@pytest.mark.parametrize(("text", "said"), [
    ("il-prx", "did you mean 'il-prox'"), ("il-prox,alpah=3", "did you mean alpha?"), ("il-prox,alpha", "NAME,KEY=VALUE"),
    ("il-prox,alpha=-1", "alpha: got -1"), ("", "algorithm")])
def test_a_wrong_rule_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ExperimentError, match=r"--algorithm: ") as caught:
        Subject.parse(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_network_is_one_line() -> None:
    with pytest.raises(ExperimentError, match=r"--hidden: layers: got \[784, 0, 10\]"):
        Plan(TINY.subjects, hidden=(0,))


def test_first_calls_are_measured_in_fresh_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_call, "CACHES", ())  # what this machine has compiled already
    findings = Findings()
    measure_first_calls(TINY, findings, stop=threading.Event(), tell=nothing)
    assert findings.first_calls[0]["rule"] == RULES[0] and findings.absent == []
    assert min(findings.first_calls[0]["compiled"], findings.first_calls[0]["from_disk"]) > 0
    assert "with nothing compiled before" in result_text(findings.result(TINY))


def test_a_process_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_call, "CHILD", "raise SystemExit('no such thing')")
    findings = Findings()
    measure_first_calls(TINY, findings, stop=threading.Event(), tell=nothing)
    assert findings.first_calls == [] and [one.reason for one in findings.absent] == ["no such thing"]


def test_rates_are_of_equal_samples_and_over_the_first() -> None:
    slow, fast, unmeasured = {"slow": [2.0, 4.0, 3.0]}, {"fast": [1.0, 2.0]}, {"none": []}
    first, second = rates(slow | fast | unmeasured, 600)
    assert (first["ratio_to_first"], second["ratio_to_first"]) == (1.0, 2.0)
    assert second["samples_per_second"] == {"median": 400.0, "lowest": 300.0, "highest": 600.0}
    assert (second["first"], second["samples"], second["turns"]) == ("slow", 600, 2)


def test_a_consumer_is_measured_from_its_first_record_to_its_end() -> None:
    clock = Clock()
    for line in ("metrics and page at x", "learning from topic t, from offset 0", "something else", "done after 600 samples"):
        clock(line)
    assert clock.seconds > 0
