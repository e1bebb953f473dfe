"""docs/a-new-learner.md: its rule is registered for a test, and held to all that registered rules have to pass."""

from __future__ import annotations

import doctest
import importlib
import itertools
import re
import runpy
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
from checks import apply, name_of, yield_checks
from pages import PARTS, ROOT, assert_page_of_an_algorithm, blocks, run_block

import streamil.learners
from streamil import load_experiment, run
from streamil.learners import ALGORITHMS, learner_class

torch.set_num_threads(1)
PAGE = ROOT / "docs" / "a-new-learner.md"
LONGEST = 120
RULE, TEST, RACE = (block for block in blocks(PAGE) if block.file)


@pytest.fixture
def rule(tmp_path, monkeypatch):
    """The page's rule, registered by the page's line as if its file stood beside the others: name and module."""
    name, target = re.search(r'^\+ +"([\w-]+)": "([\w.:]+)",$', PAGE.read_text(encoding="utf-8"), re.MULTILINE).groups()
    module = target.partition(":")[0]
    assert name not in ALGORITHMS and module == f"streamil.learners.{RULE.file.removesuffix('.py')}"
    for block in (RULE, TEST, RACE):
        (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    monkeypatch.setattr(streamil.learners, "__path__", [*streamil.learners.__path__, str(tmp_path)])
    monkeypatch.setitem(ALGORITHMS, name, target)
    monkeypatch.chdir(tmp_path)
    yield SimpleNamespace(name=name, module=importlib.import_module(module))
    del sys.modules[module]
    delattr(streamil.learners, module.rpartition(".")[2])


def test_the_file_is_short():
    assert RULE.text.count("\n") < LONGEST


def test_the_rule_passes_what_every_rule_has_to_pass(rule):
    checks = list(yield_checks(rule.name))
    assert {name_of(check) for check in checks} == {name_of(check) for check in yield_checks("bp-sgd")}
    for check in checks:
        apply(check, rule.name)


def test_the_examples_of_the_rule_and_its_own_test_run(rule):
    outcome = doctest.testmod(rule.module)
    assert outcome.attempted and not outcome.failed
    (test,) = (one for name, one in runpy.run_path(TEST.file).items() if name.startswith("test_"))
    for size, nesterov in itertools.product((1, 8), (False, True)):
        test(size, nesterov)


def test_the_page_of_the_rule_is_one(rule, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from experiment_file import page, rows_of

    text = PAGE.read_text(encoding="utf-8")
    indented = re.search(rf"^    # {rule.name}\n(?:    .*\n|\n)+", text, re.MULTILINE)
    (tmp_path / "page.md").write_text(textwrap.dedent(indented[0]), encoding="utf-8")
    assert_page_of_an_algorithm(tmp_path / "page.md", rows_of(learner_class(rule.name).Hyperparameters.model_fields), PARTS)
    (example,) = blocks(tmp_path / "page.md", "python")
    run_block(example.text, tmp_path)
    assert f"### `{rule.name}`" in page()


def test_the_rule_can_be_raced(rule):
    result = run(load_experiment(RACE.file), limit=300)
    assert all(member["accuracy"] > 0.5 for member in result["arms"][rule.name]["members"])
    assert [one["challenger"] for one in result["comparisons"]] == [rule.name]
