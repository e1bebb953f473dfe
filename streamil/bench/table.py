"""The result as people read it: ratios first, then times, then what is missing and why."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table

COLUMNS = ("rule", "by", "members", "/ BP-SGD", "/ BP-Adam", "an update", "lowest", "highest", "member and sample")
RACE_COLUMNS = ("race", "ratio", "samples a second", "lowest", "highest", "samples")
WIDTH = 160
"""Of what is no terminal: nothing is folded there."""


def result_text(result: dict[str, Any], *, terminal: bool = False, width: int = WIDTH) -> str:
    """Return what the terminal shows of a result, in lines.

    Parameters
    ----------
    result
        What `Findings.result` returned.
    terminal
        Whether somebody looks: lines and bold headings.
    width
        Of the terminal.
    """
    screen = Console(file=io.StringIO(), width=width, force_terminal=terminal, highlight=False)
    sizes = list(dict.fromkeys(row["batch_size"] for row in result["learners"]))
    parts: list[Any] = []
    for size in sizes:
        rows = [row for row in result["learners"] if row["batch_size"] == size]
        title = f"mini-batches of {size}: cost of an update of one member, over that of torch's own (eager)"
        table = _table(title, COLUMNS, 2, terminal)
        for row in sorted(rows, key=lambda row: row["way"] not in ("kernel", "plain")):
            table.add_row(*cells(row))
        parts += [table, ""]
    if result["end_to_end"]:
        table = _table("through Kafka", RACE_COLUMNS, 1, terminal)
        for race in result["end_to_end"]:
            table.add_row(*race_cells(race))
        parts += [table, ""]
    screen.print(Group(*parts))
    assert isinstance(screen.file, io.StringIO)
    tables = [line.rstrip() for line in screen.file.getvalue().splitlines()]
    return "\n".join([*answers(result), "", *tables, *notes(result)]).strip()


def answers(result: dict[str, Any]) -> Iterator[str]:
    """Yield, for each mini-batch size, which rules of inference learning cost less than torch's backpropagation.

    Examples
    --------
    >>> list(answers({"learners": [{"rule": "il-prox", "way": "kernel", "batch_size": 8, "ratio_to_bp_sgd": 0.5},
    ...                            {"rule": "il-kfac", "way": "plain", "batch_size": 8, "ratio_to_bp_sgd": 2.0}]}))
    ["mini-batches of 8: an update costs less than torch's BP-SGD by il-prox (0.50); more by il-kfac (2.00, plain)"]
    """
    rows: dict[int, dict[str, dict[str, Any]]] = {}
    for row in result["learners"]:
        if row["rule"].startswith("il-") and row["ratio_to_bp_sgd"] is not None:
            # the first is the kernel's, with the fewest members
            rows.setdefault(row["batch_size"], {}).setdefault(row["rule"], row)
    for size, found in rows.items():
        less, more = ([f"{rule} ({ratio(row['ratio_to_bp_sgd'])}{', plain' if row['way'] == 'plain' else ''})"
                       for rule, row in found.items() if (row["ratio_to_bp_sgd"] < 1) is wanted]
                      for wanted in (True, False))
        said = ["costs less than torch's BP-SGD by " + ", ".join(less)] if less else []
        said += [("more" if less else "costs more than torch's BP-SGD") + " by " + ", ".join(more)] if more else []
        yield f"mini-batches of {size}: an update {'; '.join(said)}"


def _table(title: str, columns: tuple[str, ...], texts: int, terminal: bool) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD if terminal else None, title_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < texts else "right", no_wrap=not terminal)
    return table


def cells(row: dict[str, Any]) -> list[str]:
    """Return a learner's line of the table, as `COLUMNS` has it.

    Examples
    --------
    >>> spread = {"median": 1.5e-4, "lowest": 1e-4, "highest": 0.25}
    >>> cells({"rule": "bp-sgd", "way": "plain", "members": 2, "diverged": 1, "ratio_to_bp_sgd": 0.512,
    ...        "ratio_to_bp_adam": None, "update": spread, "member_sample": spread})
    ['bp-sgd (1 diverged)', 'plain', '2', '0.51', '', '150 us', '100 us', '250 ms', '150 us']
    """
    update = row["update"]
    diverged = f" ({row['diverged']} diverged)" if row["diverged"] else ""
    return [row["rule"] + diverged, row["way"], str(row["members"]), ratio(row["ratio_to_bp_sgd"]),
            ratio(row["ratio_to_bp_adam"]),
            *(time_text(update[key]) for key in ("median", "lowest", "highest")),
            time_text(row["member_sample"]["median"])]


def race_cells(race: dict[str, Any]) -> list[str]:
    """Return a race's line."""
    rates = race["samples_per_second"]
    return [race["race"], ratio(race["ratio_to_first"]),
            *(f"{rates[key]:,.0f}" for key in ("median", "lowest", "highest")), str(race["samples"])]


def ratio(value: float | None) -> str:
    """Return a ratio in two digits that count, nothing for None.

    Examples
    --------
    >>> ratio(0.0345), ratio(1.234), ratio(56.78), ratio(None)
    ('0.035', '1.23', '56.8', '')
    """
    if value is None:
        return ""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def time_text(seconds: float) -> str:
    """Return a time in three digits that count.

    Examples
    --------
    >>> time_text(1.234), time_text(0.0123456), time_text(4.5e-6), time_text(12e-9)
    ('1.23 s', '12.3 ms', '4.5 us', '0.012 us')
    """
    units = ((1.0, "s"), (1e3, "ms"), (1e6, "us"))
    factor, unit = next((one for one in units if seconds * one[0] >= 1), units[-1])
    return f"{seconds * factor:.3g} {unit}"


def notes(result: dict[str, Any]) -> Iterator[str]:
    """Yield what is told below the tables: first calls, what is missing and why, the machine."""
    for call in result["first_calls"]:
        yield (f"first call of {call['rule']}: {time_text(call['compiled'])} with nothing compiled before, "
               f"{time_text(call['from_disk'])} from disk")
    compiled: dict[str, list[str]] = {}
    for row in result["learners"]:
        if row["way"] == "compiled" and row["first_call"] is not None:
            compiled.setdefault(row["rule"], []).append(f"{time_text(row['first_call'])} at {row['batch_size']}")
    for rule, times in compiled.items():
        yield f"first call of {rule} under torch.compile: {', '.join(times)} a mini-batch"
    missing: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in result["not_measured"]:
        missing.setdefault((one["rule"], one["way"], one["reason"]), []).append(one)
    for (rule, way, reason), places in missing.items():
        sizes, members = (", ".join(str(size) for size in sorted({one[key] for one in places}))
                          for key in ("batch_size", "members"))
        yield f"not measured: {rule}, {way}, at mini-batches of {sizes}, members {members}: {reason}"
    machine, setting = result["machine"], result["setting"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    network = "-".join(map(str, (784, *setting["hidden"], 10)))
    yield (f"{machine['device'] or machine['cpu']}, {machine['cores']} cores (load {machine['load']}), threads "
           f"{setting['threads']}{f', network {network}' if result['learners'] else ''}; python {machine['python']}, "
           f"{versions}")
    if not result["complete"]:
        yield "interrupted: this is what was measured so far"
