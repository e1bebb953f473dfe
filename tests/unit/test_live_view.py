"""The race in the terminal: curves and courses where they belong, whatever the names hold."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from streamil.live_view import WIDTH, one_line, race_view


def text_of(status: dict[str, Any], pictures: dict[str, Any] | None) -> str:
    screen = Console(file=io.StringIO(), width=200, color_system=None)
    screen.print(race_view(status, pictures))
    return screen.file.getvalue()  # type: ignore[attr-defined]


def status(**more: Any) -> dict[str, Any]:
    figures = {"accuracy": 0.5, "windowed": 0.75}
    return {"experiment": "race", "samples": 320, "samples_per_second": 12.0, "state": "learning", "lag": 4, "segment": 1, "broker_away": False,
            "answer": ["il leads."], "arms": [{"arm": "il", "family": "il", "members": 2, "best": figures, "median": figures, "worst": {"accuracy": None, "windowed": None}}],
            "comparisons": [{"challenger": "il", "baseline": "bp", "verdict": "open", "mean_difference": 0.01, "lower": -0.1, "upper": 0.12}], **more}


PICTURES = {"arms": [{"arm": "il", "samples": [10, 160, 320], "best": [0.2, 0.4, 0.9]}], "marks": [[161, 1]], "comparisons": [
    {"challenger": "il", "baseline": "bp", "samples": [10, 320], "verdicts": [[10, "open"], [160, "challenger leads"], [310, "baseline leads"]]}]}


def test_a_curve_stands_at_its_samples_with_marks_between() -> None:
    line = next(line for line in text_of(status(), PICTURES).splitlines() if line.startswith("il  "))
    curve = line.split()[-1]
    # a column is ten samples: the second value from 160 on, the third at the end alone; the change at 161 hides one
    assert curve == "▁" * 15 + "▃" + "┊" + "▃" * 14 + "█" and len(curve) == WIDTH


def test_a_course_is_the_verdict_at_each_place() -> None:
    text = text_of(status(), PICTURES)
    assert "░" * 15 + "█" * 17 in text and "+1.00" in text and "-10.00 … +12.00" in text
    assert "race: 320 samples, 12 a second, learning, lag 4, segment 1" in text and "il leads." in text


@pytest.mark.parametrize("pictures", [None, {"arms": [], "marks": [], "comparisons": []},
                                      {"arms": [{"arm": "il", "samples": [], "best": []}], "marks": [], "comparisons": [{"challenger": "il", "baseline": "bp", "samples": [], "verdicts": []}]}])
def test_without_curves_the_figures_stay(pictures: dict[str, Any] | None) -> None:
    text = text_of(status(comparisons=status()["comparisons"] if pictures else []), pictures)
    assert "50.00 %" in text and "█" not in text
    assert ("il against bp" in text) == bool(pictures)


def test_names_cannot_move_the_terminal() -> None:
    evil = status(experiment="a\x1b[2Jb", answer=["\x1b]0;x\x07 [red]no markup[/red]"])
    text = text_of(evil, None)
    assert "\x1b" not in text and "[red]no markup[/red]" in text
    assert one_line(evil) == "320 samples, 12/s  il 0.500"
