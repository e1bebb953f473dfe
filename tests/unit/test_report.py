"""The report as text: whole, escaped, and clear about folders that hold no results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from streamil.errors import ReportError
from streamil.experiment import Experiment
from streamil.race import Race
from streamil.report.page import report_page, write_report
from streamil.results import write_results
from streamil.samples import Records

EVIL = '</script><img src="http://evil.example/x" onerror="alert(1)">'


def left(folder: Path, samples: int = 300, *, name: str = "small", arm: str = "il", **more: object) -> Path:
    race = Race(Experiment.model_validate({
        "name": name, "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [4]},
        "arms": {arm: {"algorithm": "il-prox", "alpha": [0.1, 1]}, "bp": {"algorithm": "bp-sgd"}}, **more}))
    luck = np.random.default_rng(0)
    if samples:
        race.feed(Records(y=[f"{name} {n % 2}" for n in range(samples)], x=luck.normal(size=(samples, 3)), segment=np.arange(samples) // 250),
                  np.arange(samples))
    write_results(race, folder)
    return folder


def text_of(folder: Path) -> str:
    page = write_report(folder).read_text()
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize("more", [{}, {"comparisons": []}, {"evaluation": {"diagnostics": {"every": 50}}}, {"verdict": {"controls": ["bp"]}}])
@pytest.mark.parametrize("samples", [0, 1, 300])
def test_every_run_has_a_report_without_nan(tmp_path: Path, samples: int, more: dict[str, object]) -> None:
    text = text_of(left(tmp_path, samples, **more))
    assert not re.search(r"\b(nan|NaN|None|Infinity|undefined)\b", re.sub(r"<p class.*?</p>", "", text))
    assert "not reached" in text and "streamil run experiment.yaml" in text and "il-prox" in text
    assert ("Nothing is compared." in text) == ("comparisons" in more)
    assert ("Diagnostics of the theory" in text) == ("evaluation" in more)


def test_one_class_only_is_shown_as_what_it_is(tmp_path: Path) -> None:
    race = Race(Experiment.model_validate({"stream": {"source": {"kind": "elec"}}, "network": {"hidden": [4]}, "arms": {"il": {"algorithm": "il-prox"}}}))
    race.feed(Records(y=["same"] * 50, x=np.eye(50, 3)), np.arange(50))
    write_results(race, tmp_path)
    text = text_of(tmp_path)
    assert "1 classes met" in text and "–" in text and "Nothing is compared." in text


def test_names_of_others_stay_text(tmp_path: Path) -> None:
    page = write_report(left(tmp_path, name=EVIL, arm=EVIL)).read_text()
    assert EVIL not in page and "&lt;/script&gt;" in page
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data and json.loads(data[1])["pictures"]["arms"][0]["arm"] == EVIL
    assert "default-src 'none'" in page


def test_the_experiment_in_the_report_repeats_the_run(tmp_path: Path) -> None:
    from streamil.experiment import load_experiment

    page = write_report(left(tmp_path, verdict={"alpha": 0.01})).read_text()
    written = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)[-1].replace("&#x27;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    (tmp_path / "again.yaml").write_text(written)
    again = load_experiment(tmp_path / "again.yaml")
    assert again.verdict.alpha == 0.01 and again.arms["il"].hyperparameters == {"alpha": [0.1, 1]}
    assert "bootstrap_servers" not in page.split("<pre>")[-1].split("</pre>")[0]


def test_folders_without_results_say_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"summary.json cannot be read.*streamil run"):
        write_report(tmp_path)
    left(tmp_path)
    for name, content in (("summary.json", b"{"), ("details.json", b"[]"), ("details.json", b"[" * 100_000), ("summary.json", b'{"arms": 3}'), ("details.json", b"{}")):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReportError):
            write_report(tmp_path)
        (tmp_path / name).write_bytes(kept)
    write_report(tmp_path)


def test_details_without_pieces_are_refused_by_name(tmp_path: Path) -> None:
    left(tmp_path)
    summary, details = (json.loads((tmp_path / name).read_text()) for name in ("summary.json", "details.json"))
    for key in details:
        with pytest.raises(KeyError):
            report_page(summary, {name: value for name, value in details.items() if name != key})
