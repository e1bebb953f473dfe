"""The documentation says what the code does: its blocks run, its tables are the code's, its links lead somewhere."""

import json
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from matplotlib import image
from pages import (
    PAGES,
    PARTS,
    ROOT,
    assert_page_of_an_algorithm,
    blocks,
    blocks_of_all,
    prose,
    run_block,
    table,
)
from prometheus import panels

from streamil import run
from streamil.arms import plan_arms
from streamil.codec import REASONS, RECORD_LIMIT, decode
from streamil.codec._arrow_guard import EXPANDED_LIMIT
from streamil.codec._gather import CELLS_LIMIT, SAMPLES_LIMIT, TEXT_LIMIT
from streamil.codec.json_format import DEPTH_LIMIT
from streamil.experiment import Experiment, load_experiment
from streamil.experiment.regimes import Regime
from streamil.experiment_file import read_yaml
from streamil.kinds import SLOTS
from streamil.learners import ALGORITHMS, learner_class
from streamil.learners.torch_arm import TorchHyperparameters
from streamil.streams.regimes import REGIMES

WIRE = ROOT / "docs" / "wire-format.md"
FEATURES = ROOT / "docs" / "features.md"
KUBERNETES = ROOT / "deploy" / "kubernetes" / "README.md"
NEW_LEARNER = ROOT / "docs" / "a-new-learner.md"  # its learner is not registered: tests/unit/learners/test_new_learner.py
CUSTOM = ROOT / "docs" / "custom-streams.md"  # tests/integration/test_custom_streams.py runs all of its blocks
SOURCE = {"source": {"kind": "elec"}}
ARMS = {"bp": {"algorithm": "bp-sgd"}}


@pytest.mark.parametrize("block", [block for block in blocks_of_all("python")
                                   if not block.needs_broker and block.page not in (FEATURES, CUSTOM)
                                   and "model.pt2" not in block.text], ids=str)  # tests/integration/test_snapshot_export.py
def test_python_blocks_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_block(block.text, tmp_path)


@pytest.mark.parametrize("block", [block for block in blocks_of_all("yaml")
                                   if block.page not in (NEW_LEARNER, KUBERNETES)], ids=str)
def test_yaml_blocks_are_valid_experiments_or_parts_of_one(block, tmp_path):
    (tmp_path / "block.yaml").write_text(block.text, encoding="utf-8")
    written, _ = read_yaml(tmp_path / "block.yaml")
    plan_arms(Experiment.model_validate({"stream": SOURCE, "arms": ARMS} | written))


def test_the_sources_of_the_page_can_be_raced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = []
    for block in blocks(FEATURES):
        if block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
            files += [block.file] if block.language == "yaml" else []
        elif block.language == "csv":
            table = re.search(r"path: (\S+\.csv)", Path(files[-1]).read_text())[1]
            Path(table).write_text(block.text, encoding="utf-8")
        else:
            assert block.language == "python"
            run_block(block.text, tmp_path)
    assert len(files) == 4
    for file in files:
        experiment = load_experiment(file)
        told = []
        result = run(experiment, limit=60, tell=told.append)
        assert result["samples"] == (3 if "readings" in file else 60)
        assert told == []


def test_the_table_of_inputs_is_what_the_featurizer_does():
    page = FEATURES.read_text()
    assert f"{SLOTS} inputs, one of them 1: the first {SLOTS - 1} values" in page


def test_the_page_of_the_experiment_file_is_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from experiment_file import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "run: python docs/experiment_file.py"


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "torch"])
def test_the_page_of_an_algorithm_has_its_hyperparameters(algorithm, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from experiment_file import rows_of

    model = TorchHyperparameters if algorithm == "torch" else learner_class(algorithm).Hyperparameters
    page = ROOT / "docs" / "algorithms" / f"{algorithm}.md"
    assert_page_of_an_algorithm(page, rows_of(model.model_fields), () if algorithm == "torch" else PARTS)


def test_every_regime_has_a_section_with_its_settings_and_a_picture(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from experiment_file import rows_of
    from regimes import PICTURES, draw

    page = ROOT / "docs" / "regimes.md"
    for model in get_args(get_args(Regime)[0]):
        kind = get_args(model.model_fields["kind"].annotation)[0]
        section = page.read_text(encoding="utf-8").partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
        assert f"](regimes/{kind}.png)" in section
        settings = {name: field for name, field in model.model_fields.items() if name != "kind"}
        if settings:
            assert table(page, f"## {kind}\n\n{section.strip().partition('| key')[0]}".rstrip()) == rows_of(settings)
        assert (ROOT / "docs" / "regimes" / f"{kind}.png").stat().st_size < 60_000
    assert list(PICTURES) == list(REGIMES)
    drawn = image.imread(draw("limited", tmp_path))
    assert min(drawn.shape[:2]) > 200 and float(np.std(drawn)) > 0.05


def test_every_reason_is_documented():
    assert table(WIRE, "### Reasons") == [[f"`{reason}`", meaning] for reason, meaning in REASONS.items()]


def test_every_reason_that_the_rules_name_exists():
    rules = WIRE.read_text().partition("## Rules at the edges")[2].partition("### Headers")[0]
    named = set(re.findall(r"`([a-z]+-[a-z-]+)`", rules))
    assert named <= set(REASONS)
    assert named >= {"bad-label", "bad-time", "wrong-width", "schema-registry", "too-deep"}


def test_the_limits_are_those_of_the_code():
    cells = [row[1] for row in table(WIRE, "### Limits")]
    for cell, shown in zip(cells, (f"{RECORD_LIMIT >> 20} MiB", f"{SAMPLES_LIMIT:,}", f"{CELLS_LIMIT:,}", f"{TEXT_LIMIT:,}",
                                   f"{EXPANDED_LIMIT >> 20} MiB", f"{DEPTH_LIMIT} levels"), strict=True):
        assert cell.startswith(shown)


def test_the_records_of_the_page_are_records():
    (lines,) = blocks(WIRE, "json")
    counts = [len(decode(line.encode())) for line in lines.text.splitlines()]
    assert counts == [1, 1, 2]
    kcat = re.search(r"echo '(.*)' \| kcat", WIRE.read_text())
    assert decode(kcat[1].encode()).y == ["on"]


def test_the_tables_of_metrics_are_those_that_are_written(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from metrics import TABLES

    for page, rows in TABLES.items():
        assert table(page, "## Page and metrics" if page.parent.name == "consumers" else "## Metrics") == rows(), "run: python docs/metrics.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        assert target.exists(), f"{link} is not there"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def test_no_command_of_the_pages_is_unknown():
    from streamil.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    for page in PAGES:
        for block in blocks(page):
            for word in re.findall(r"^(?:\S*/)?streamil ([a-z-]+)", block.text, re.MULTILINE):
                assert word in known, f"{block}: streamil {word}"


def test_every_test_that_the_guarantees_name_exists():
    faults = ROOT / "tests" / "faults"
    named = re.findall(r"`([\w./]+\.py)::(\w+)`", (ROOT / "docs" / "guarantees.md").read_text())
    assert len(named) > 25
    for file, test in named:
        assert f"def {test}(" in (faults / file).read_text(), (file, test)
    scenarios = set(re.findall(r"^def (\w+)\(kafka: Kafka, topic: str, folder: Path\)", (faults / "scenarios.py").read_text(), re.M))
    assert scenarios == {test for file, test in named if file == "scenarios.py"}, "each scenario is promised to somebody"


def test_the_dashboards_are_those_that_are_written_and_the_page_has_every_panel(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "deploy" / "grafana")
    from dashboards import DASHBOARDS, FOLDER, text

    page = ROOT / "docs" / "dashboards.md"
    for name in DASHBOARDS:
        assert (FOLDER / f"{name}.json").read_text() == text(name), "run: python deploy/grafana/dashboards.py"
        rows = table(page, f"## {name.title()}\n")
        assert [row[:2] for row in rows] == [[title, meaning] for title, meaning, _ in panels(name)]
        assert all(row[2] for row in rows), "run: python docs/dashboards.py"


def test_every_alert_has_its_section_in_the_runbook():
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "streamil.yml").read_text()
    alerts, sections = re.findall(r"alert: (\w+)", rules), re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.M)
    assert alerts == sections and len(alerts) == len(set(alerts))
    assert re.findall(r"runbook: docs/runbook.md#(\w+)", rules) == [alert.lower() for alert in alerts]
    tested = re.findall(r"alertname: (\w+)", (ROOT / "deploy" / "prometheus" / "tests" / "alerts.yml").read_text())
    assert set(tested) == set(alerts)


@pytest.mark.parametrize("file", sorted((ROOT / "deploy").rglob("*.json")), ids=lambda file: file.name)
def test_dashboards_find_their_data_source_in_any_grafana(file):
    text = file.read_text()
    assert "${DS_" not in text and "__inputs" not in text
    board = json.loads(text)
    declared = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(?!__)([a-z_]+)", re.sub(r'\\"\$1\\"', "", text)))
    assert used == declared and len(declared) >= 3
    (source,) = [variable for variable in board["templating"]["list"] if variable["type"] == "datasource"]
    assert source["query"] == "prometheus"
    assert sorted(panel["id"] for panel in board["panels"]) == list(range(1, len(board["panels"]) + 1))
    for panel in board["panels"]:
        assert all(isinstance(one["options"], dict) and not one.get("disabled") for one in panel.get("transformations", []))
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    provisioned = (ROOT / "deploy/grafana/provisioning/datasources/streamil.yaml").read_text()
    assert f"uid: {source['current']['value']}\n" in provisioned
    for query in re.findall(r'"expr": "(.*)"', text):
        assert not re.search(r"\brate\([^()]*\[(?!\$__rate_interval\])", query), query
