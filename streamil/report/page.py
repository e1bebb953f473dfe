"""The report of a run: one HTML file that needs nothing else, made from what the run left in its folder."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from streamil.charts import charts_fragment, charts_script, plotly_script, style
from streamil.errors import ReportError
from streamil.report.answer import QUESTION, answer
from streamil.report.lines import varied

MEMBERS_SHOWN = 20
"""Of an arm; of larger populations the best, the median and the worst."""
CHANGES_SHOWN = 20
"""Changes of the stream in a table, the newest."""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""The file loads nothing from anywhere."""
MEASURES = {"accuracy": "accuracy", "windowed": "last samples", "log_loss": "log-loss", "kappa": "kappa",
            "kappa_temporal": "kappa temporal", "kappa_majority": "kappa majority", "macro_f1": "macro-F1",
            "area_under_curve": "area under curve", "forgetting": "forgotten"}
"""What the table of arms shows of each member, and what it is called."""

Json = Mapping[str, Any]


def write_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a run, from its `summary.json` and `details.json`; return its path.

    Raises
    ------
    ReportError
        When the folder holds no results, or damaged ones, or cannot be written to.
    """
    summary, details = _read(folder, "summary.json"), _read(folder, "details.json")
    try:
        text = report_page(summary, details)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ReportError(f"{folder}: summary.json and details.json are not what a run of this version leaves "
                          f"({type(error).__name__}: {str(error)[:80]}): run it again") from None
    path = folder / "report.html"
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}") from None
    return path


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_bytes())
    except OSError as error:
        raise ReportError(f"{folder / name} cannot be read: {error.strerror}; `streamil run FILE --out {folder}` "
                          "leaves what a report is made of") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{folder / name} is damaged: {str(error)[:80]}") from None
    if not isinstance(found, dict):
        raise ReportError(f"{folder / name} is damaged: a JSON object is expected")
    return found


def report_page(summary: Json, details: Json) -> str:
    """Return the report as one HTML text.

    Parameters
    ----------
    summary, details
        What `summary.json` and `details.json` hold.
    """
    arms, title = summary["arms"], f"{summary['experiment']}: streamil report"
    batch_sizes = {name: arm["batch_size"] for name, arm in arms.items()}
    said = answer(summary["comparisons"], batch_sizes, summary["controls"])
    data = {"pictures": details["pictures"], "comparisons": summary["comparisons"], "confusion": details["confusion"],
            "labels": details["labels"], "diagnostics": details["diagnostics"]}
    parts = [
        "<!doctype html>", '<html lang="en">', '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">', f"<title>{_text(title)}</title>",
        f"<style>{style().decode()}</style>", f"<h1>{_text(summary['experiment'])}</h1>", f"<p>{QUESTION}</p>",
        '<div class="answer">', *(f"<p>{_text(line)}</p>" for line in said), "</div>",
        f'<p class="small">{_text(_head(summary, details))}</p>',
        charts_fragment(),
        *_arms(arms), *_comparisons(summary), *_confusion(details), *_drift(arms), *_forgetting(arms),
        *_diagnostics(arms, details), *_repeat(summary, details), *_reading(details),
        f'<script type="application/json" id="data">{_script_safe(json.dumps(data, allow_nan=False))}</script>',
        *(f"<script>{script}</script>" for script in (
            plotly_script().decode(), charts_script().decode(),
            files(__package__).joinpath("report.js").read_text(encoding="utf-8"))),
        "</html>", ""]
    return "\n".join(parts)


def _text(value: object) -> str:
    return html.escape(str(value))


def _script_safe(text: str) -> str:
    """Return JSON that no browser takes for the end of its script."""
    return text.replace("<", "\\u003c")


def _head(summary: Json, details: Json) -> str:
    rejected = sum(details["rejected"].values())
    more = [f"{rejected:,} rejected ({', '.join(f'{why} {count:,}' for why, count in details['rejected'].items())})"
            ] if rejected else []
    more += [f"{details['unlabelled']:,} without a label"] if details["unlabelled"] else []
    features = f" ({', '.join(details['features'][:12])}{', …' if len(details['features']) > 12 else ''})" \
        if details["features"] else ""
    return "; ".join([f"{summary['samples']:,} samples taken in, each predicted before it was learned", *more,
                      f"{details['inputs'] or 'no'} inputs{features}", f"{len(details['labels'])} classes met"])


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], text: Iterable[int] = ()) -> Iterator[str]:
    """Yield a table; cells are HTML already, those of the columns `text` are set as text."""
    kinds = dict.fromkeys(text, ' class="text"')
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th{kinds.get(place, '')}>{_text(one)}" for place, one in enumerate(headings))
    yield "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td{kinds.get(place, '')}>{cell}</td>" for place, cell in enumerate(row)) + "</tr>"
    yield "</tbody></table></div>"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.2f}"


def _best(arm: Json) -> int:
    """Return the member that was right most often."""
    members = arm["members"]
    return max(range(len(members)), key=lambda place: members[place]["correct"])


def _shown(arm: Json) -> list[tuple[str, Json]]:
    members = arm["members"]
    if len(members) <= MEMBERS_SHOWN:
        return [(varied(members, one), one) for one in members]
    ranked = sorted(members, key=lambda one: -one["correct"])
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    return [(f"{rank} of {len(ranked)}: {varied(members, ranked[place])}", ranked[place])
            for rank, place in places.items()]


def _arms(arms: Json) -> Iterator[str]:
    thresholds = next((list(member["samples_to"]) for arm in arms.values() for member in arm["members"]), [])
    yield "<h2>Arms and members</h2>"
    rows = []
    for name, arm in arms.items():
        for setting, member in _shown(arm):
            reached = [f"{found:,}" if (found := member["samples_to"][one]) else "not reached" for one in thresholds]
            rows.append([
                f'<span class="{"il" if arm["family"] == "il" else "other"}">{_text(name)}</span>',
                _text(arm["algorithm"]), str(arm["batch_size"]),
                _text(setting) + (" <b>diverged</b>" if member["diverged"] else ""), f"{member['samples']:,}",
                *(_number(member[measure]) for measure in MEASURES), *reached])
    yield from _table(["arm", "algorithm", "mini-batch", "member", "samples", *MEASURES.values(),
                       *(f"samples to {one}" for one in thresholds)], rows, text=(1, 3))
    for name, arm in arms.items():
        listed = ", ".join(f"{key} {value}" for key, value in arm["members"][0]["hyperparameters"].items())
        yield (f"<details><summary>{_text(name)}: all hyperparameters of the first member</summary>"
               f'<p class="small">{_text(listed)}</p></details>')


def _comparisons(summary: Json) -> Iterator[str]:
    yield "<h2>Comparisons</h2>"
    if not summary["comparisons"] and not summary["controls"]:
        yield "<p>Nothing is compared.</p>"
        return
    rows = []
    for kind, listed in (("", summary["comparisons"]), ("A/A control: ", summary["controls"])):
        for one in listed:
            since = one["since_segment"]
            rows.append([
                _text(f"{one['challenger']} against {one['baseline']}"), _text(kind + one["verdict"]),
                _points(one["mean_difference"]), f"{_points(one['lower'])} … {_points(one['upper'])}",
                _number(one["log_e"], 2), _sooner(one),
                f"{one['samples']:,}",
                _text(f"{since['verdict']}, {_points(since['mean_difference'])} over {since['samples']:,}")])
    yield from _table(["comparison", "verdict", "advantage, points", "interval", "log e", "sooner", "samples",
                       "since the last change of segment"], rows, text=(1, 7))


def _sooner(one: Json) -> str:
    leads = one["verdict"] == "challenger leads" and one["speedup"] is not None
    return f"{one['speedup']:.1f} ×" if leads else "–"  # where it is level the number is chance


def _confusion(details: Json) -> Iterator[str]:
    if any(one["counts"] for one in details["confusion"].values()):
        yield '<h2>Confusion of the best member</h2><select id="arm" aria-label="arm"></select>'
        yield '<div id="confusion" class="chart"></div>'


def _drift(arms: Json) -> Iterator[str]:
    yield "<h2>Changes of the stream: noticed, and recovered from</h2>"
    rows = []
    for name, arm in arms.items():
        best = _best(arm)
        for change in arm["drift"]["changes"][-CHANGES_SHOWN:]:
            recovered, delay = change["recovered"][best], change["delay"]
            rows.append([
                _text(name), str(change["segment"]), f"{change['at']:,}", _number(change["before"][best]),
                f"{delay:,} samples" if delay else "not noticed",
                f"{recovered:,} samples" if recovered else "not recovered"])
    if rows:
        yield from _table(["arm", "segment", "change at sample", "accuracy before", "ADWIN noticed after",
                           "best member back at 95 % after"], rows)
    else:
        yield "<p>No change of segment was stamped on this stream.</p>"
    alarms = ", ".join(f"{_text(name)} {arm['drift']['false_alarms']} of {arm['drift']['notices']}"
                       for name, arm in arms.items())
    yield f'<p class="small">Notices of ADWIN that no stamped change explains: {alarms}.</p>'


def _forgetting(arms: Json) -> Iterator[str]:
    segments: list[Json] = next((arm["forgetting"] for arm in arms.values() if arm["forgetting"]), [])
    if not segments:
        return
    yield "<h2>What is kept of earlier segments</h2>"
    rows = []
    for name, arm in arms.items():
        best = _best(arm)
        rows.append([_text(name), *(f"{_number(one['accuracy'][best], 2)} ({-100 * one['forgotten'][best]:.0f})"
                                    for one in arm["forgetting"])])
    yield from _table(["arm", *(f"segment {one['segment']}" for one in segments)], rows)
    yield ('<p class="small">Accuracy of the best member on samples that are held of each segment, at the end of the '
           "run, and how many points that is below its best at any change of segment. These samples were learned "
           "once: this is about keeping, not about new samples. Where a label means something else later, to forget "
           "is right.</p>")


def _diagnostics(arms: Json, details: Json) -> Iterator[str]:
    looked = {name: arm["diagnostics"] for name, arm in arms.items() if "diagnostics" in arm}
    if not looked:
        return
    yield "<h2>Diagnostics of the theory: what one update does</h2>"
    measures = next(iter(looked.values()))["mean"]
    yield from _table(["arm", "looks", *(name.replace("_", " ") for name in measures)], [
        [_text(name), str(one["looks"]), *(_number(one["mean"][measure][_best(arms[name])], 3) for measure in measures)]
        for name, one in looked.items()])
    yield '<select id="measure" aria-label="measure"></select><div id="diagnostics" class="chart"></div>'
    yield ('<p class="small">Means of the best member over updates that were looked at. Output way: the fraction of '
           "the way to the target that the output went, 1 is there; output alignment: the cosine with that way. "
           "Implicit cosine: of a layer's change and that of one implicit SGD step from the same weights. "
           "Interference: rise of the loss on samples of earlier looks.</p>")


def _repeat(summary: Json, details: Json) -> Iterator[str]:
    yield "<h2>How to repeat it</h2>"
    written = io.StringIO()
    YAML().dump(details["experiment"], written)
    versions = ", ".join(f"{name} {version}" for name, version in details["plan"]["versions"].items())
    plan = (f"{versions}; {details['plan']['device']} ({details['plan']['cpu']}), "
            f"{details['plan']['threads']} thread(s), {details['plan']['dtype']}")
    yield f"<p>With {_text(plan)} the same file leaves the same numbers, bit for bit; elsewhere up to rounding.</p>"
    yield (f"<pre>streamil run experiment.yaml --limit {summary['samples']} --out results\n"
           "streamil report results</pre>")
    yield f"<p>experiment.yaml, without what concerns the broker:</p><pre>{_text(written.getvalue())}</pre>"
    if summary["learned_hash"] is not None:
        yield f'<p class="small">learned_hash {_text(summary["learned_hash"])}</p>'
    for line in summary.get("replanned", ()):
        yield f'<p class="small">Went on under another plan: {_text(line)}</p>'


def _reading(details: Json) -> Iterator[str]:
    window = details["pictures"]["window"]
    yield (
        '<p class="small">How to read this. Accuracy is test-then-train. The best member of an arm is chosen after '
        "the fact; verdicts are not: a challenger leads only if one of its candidates is ahead of every candidate of "
        "the baseline, at an error rate that is shared among all comparisons and holds however often one looks. They "
        "are about these learners, on this stream so far: two arms that differ in the seed alone can truly differ. "
        f"Last samples: the last {window:,}. Sooner: samples of the stream over those that the challenger needed for "
        "the accuracy that the baseline has at the end, where the challenger leads. – is undefined.</p>")
