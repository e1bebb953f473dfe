"""Page and report in a real Chromium: drawn, renewed, escaped, on a phone, in the dark, without the internet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser, browser
from streamil_consumer.view import View

from streamil.experiment import Experiment
from streamil.race import Race
from streamil.report.page import write_report
from streamil.results import write_results
from streamil.samples import Records
from streamil.telemetry.metrics import RaceMetrics
from streamil.telemetry.server import Server

EVIL = "<b>bold</b><script>document.title='taken'</script>"
CURVES = "document.querySelectorAll('#accuracy .scatterlayer .trace').length"
PATH = "[...document.querySelectorAll('#accuracy .scatterlayer path.js-line')].map(one => one.getAttribute('d')).join()"


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    if CHROMIUM is None:
        if os.environ.get("STREAMIL_REQUIRE_CHROMIUM") == "1":
            pytest.fail("there is no Chromium: apt-get install chromium")
        pytest.skip("there is no Chromium")
    with browser() as one:
        yield one


class Live:
    """A race that is fed by the test, and its page."""

    lag, offset, broker_away = 0, 0, False

    def __init__(self) -> None:
        self.telemetry = RaceMetrics()
        self.race = Race(Experiment.model_validate({
            "name": "live & small", "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [8]}, "evaluation": {"window": 50, "diagnostics": {"every": 50}},
            "arms": {f"il{EVIL}": {"algorithm": "il-kfac", "batch_size": [1, 4]}, "bp": {"algorithm": "bp-sgd", "batch_size": [1, 4], "learning_rate": [0.01, 0.1]}},
            "verdict": {"controls": ["bp@1"]}}), lock=self.telemetry.lock, timed=self.telemetry.timed)
        self.telemetry.watch(self.race)
        self.view = View(self.race, self.telemetry, self)
        self.view.state = "learning"
        self.server = Server("127.0.0.1:0", self.telemetry, self.view.status, self.view.ready, self.view.pictures)
        self.luck = np.random.default_rng(0)

    def feed(self, count: int, segment: int = 0) -> None:
        x = self.luck.normal(size=(count, 4)).astype(np.float32)
        right = (x[:, 0] + x[:, 1] > 0) ^ bool(segment)
        self.race.feed(Records(y=["up" if one else "down" for one in right.tolist()], x=x, segment=np.full(count, segment)),
                       np.arange(self.race.samples, self.race.samples + count))
        self.view.learned()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    one = Live()
    yield one
    one.server.close()


def test_the_page_waits_then_draws_then_renews_itself(page: Browser, live: Live) -> None:
    page.errors.clear()
    page.look()
    page.open(live.server.url)
    page.until("document.querySelector('#state').textContent.includes('0 samples taken in')")
    assert page.ask("document.querySelector('#charts').hidden") is True  # nothing to draw is not drawn
    live.feed(400)
    page.until("document.body.dataset.drawn")
    assert page.ask("document.title") == "live & small"
    # two arms and a control of il, four members of bp in two arms, each of them with the two edges of a band
    assert page.ask(CURVES) == len(live.race.arms) + 2 * 3
    before, said = page.ask(PATH), page.ask("document.querySelector('#answer').textContent")
    assert "Mini-batches of 1: " in said and "A/A control of bp@1: " in said
    live.feed(400, segment=1)
    page.until(f"{PATH} !== {before!r}")
    page.until("document.querySelector('#accuracy .shapelayer path') !== null")  # the change of segment
    assert page.ask("document.querySelectorAll('#verdicts .trace').length") >= 1
    assert page.ask("document.querySelectorAll('#sizes .errorbar').length") == 2
    assert [row["text"] for row in page.ask("[...document.querySelectorAll('#comparisons tbody tr')].map(one => ({text: one.cells[1].textContent}))")][-1].startswith("A/A control: ")
    assert page.errors == []


def test_a_comparison_is_chosen_and_stays_chosen(page: Browser, live: Live) -> None:
    page.until("document.querySelectorAll('#pair option').length > 1")
    names = page.ask("[...document.querySelectorAll('#pair option')].map(one => one.value)")
    assert len(names) == 1 + len(live.race.comparisons)
    page.ask(f"(() => {{ const one = document.querySelector('#pair'); one.value = {names[-1]!r}; one.onchange(); }})()")
    assert page.ask("document.querySelector('#compared').textContent").startswith(names[-1])
    page.ask("delete document.body.dataset.drawn")
    live.feed(100, segment=1)
    page.until("document.body.dataset.drawn")
    assert page.ask("document.querySelector('#compared').textContent").startswith(names[-1])


def test_names_stay_text_and_nothing_comes_from_elsewhere(page: Browser, live: Live) -> None:
    assert page.ask("document.title") == "live & small"
    assert page.ask("document.querySelectorAll('#arms b, #comparisons b, #answer b').length") == 0
    assert EVIL in page.ask("document.querySelector('#arms').textContent")
    assert EVIL in page.ask("document.querySelector('#accuracy .legend').textContent")
    elsewhere = [url for url in page.requested if not url.startswith((live.server.url, "data:", "about:", "blob:"))]
    assert page.requested and elsewhere == []
    assert page.ask("fetch('https://example.org/').then(() => 'loaded', () => 'refused')") == "refused"


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_and_the_dark(page: Browser, live: Live, dark: bool) -> None:
    page.look(390, 844, dark=dark)
    page.open(live.server.url)
    page.until("document.body.dataset.drawn")
    assert page.ask("document.documentElement.scrollWidth") <= 390
    back, text = page.ask("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert (light(back) < 0.2 < 0.7 < light(text)) if dark else (light(text) < 0.2 < 0.7 < light(back))
    axis = page.ask("getComputedStyle(document.querySelector('#accuracy .xtick text')).fill")
    assert (light(axis) > 0.7) == dark
    page.look()


def light(colour: str) -> float:
    return sum(int(part) for part in colour[colour.index("(") + 1:].rstrip(")").split(",")[:3]) / 765


def test_who_does_not_answer_any_more_is_told_and_the_last_numbers_stay(page: Browser) -> None:
    one = Live()
    one.feed(200)
    page.open(one.server.url)
    page.until("document.body.dataset.drawn")
    one.server.close()
    page.until("document.querySelector('#state').textContent.includes('does not answer')")
    assert page.ask(CURVES) > 0 and page.ask("document.querySelectorAll('#arms tbody tr').length") == 5


def test_the_report_stands_alone(page: Browser, live: Live, tmp_path: Path) -> None:
    write_results(live.race, tmp_path)
    path = write_report(tmp_path)
    page.errors.clear()
    page.requested.clear()
    page.look()
    page.open(path.as_uri())
    page.until("document.body.dataset.drawn")
    assert page.ask(CURVES) == len(live.race.arms) + 2 * 3
    page.until("document.querySelector('#confusion .heatmaplayer image') !== null")
    page.until("document.querySelectorAll('#diagnostics .scatterlayer .trace').length > 0")
    options = page.ask("[...document.querySelectorAll('#measure option')].map(one => one.value)")
    assert {"loss_after", "implicit_cosine_2", "interference"} <= set(options)
    assert page.ask("document.querySelectorAll('h1 b, td b:not(td.text b)').length") == 0
    assert [url for url in page.requested if not url.startswith(("file://", "data:", "blob:"))] == [] and page.errors == []


def test_a_report_of_nothing_still_opens(page: Browser, tmp_path: Path) -> None:
    race = Race(Experiment.model_validate({"stream": {"source": {"kind": "elec"}}, "arms": {"il": {"algorithm": "il-prox"}}}))
    write_results(race, tmp_path)
    page.errors.clear()
    page.open(write_report(tmp_path).as_uri())
    page.until("document.body.dataset.drawn")
    assert page.errors == [] and page.ask("document.querySelector('.compares').hidden") is True
