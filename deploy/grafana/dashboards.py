"""Writes the dashboards of Grafana: `python deploy/grafana/dashboards.py`.

The JSON beside this file is what people import; a test compares it with what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).with_name("dashboards")
SOURCE = DataSourceRef("prometheus", "${datasource}")
"""A variable, so that the file fits any Grafana; `deploy/compose` provisions the one it stands for at first."""
PROVISIONED = "streamil-prometheus"
RACE = 'experiment="$experiment"'
ARMS = f'{RACE}, arm=~"$arm"'
PAIR = f'{RACE}, challenger=~"$challenger", baseline=~"$baseline"'
HERE = 'instance=~"$instance"'
VERDICTS = ValueMap({
    "1": ValueMappingResult("challenger leads", "green", None, 0), "0": ValueMappingResult("open", "text", None, 1),
    "-1": ValueMappingResult("baseline leads", "orange", None, 2)})


class Query(NamedTuple):
    """An expression, and what its series are called; `instant` has one value each, as a table where told."""

    expr: str
    legend: str = ""
    instant: bool = False
    as_table: bool = False


def target(query: Query, place: int) -> prometheus.Dataquery:
    """Return one query of a panel."""
    built = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + place))
    built = built.datasource(SOURCE)
    built = built.instant() if query.instant else built.range()
    return built.format(PromQueryFormat.TABLE) if query.as_table else built


def fill(panel: Any, title: str, text: str, queries: Sequence[Query], width: int, height: int = 8) -> Any:
    """Give a panel of any kind what all have: title, description, data, size."""
    panel.title(title).description(text).datasource(SOURCE).span(width).height(height)
    for place, query in enumerate(queries):
        panel.with_target(target(query, place))
    return panel


def lines(title: str, text: str, queries: Sequence[Query], unit: str, *, width: int = 12, low: float | None = None,
          high: float | None = None) -> timeseries.Panel:
    """Return curves over time."""
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.TABLE)
    legend.placement(LegendPlacement.BOTTOM).calcs(["lastNotNull"])
    panel: timeseries.Panel = fill(timeseries.Panel(), title, text, queries, width)
    panel.unit(unit).legend(legend).line_width(2)
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    return panel


def number(title: str, text: str, query: Query, unit: str = "short", *, width: int = 6) -> stat.Panel:
    """Return the newest value of each series in large type."""
    panel: stat.Panel = fill(stat.Panel(), title, text, [query], width, 4)
    return panel.unit(unit)


def rows(title: str, text: str, query: Query, transformations: Sequence[DataTransformerConfig], unit: str = "short", *,
         width: int = 12) -> table.Panel:
    """Return a table."""
    panel: table.Panel = fill(table.Panel(), title, text, [query._replace(instant=True, as_table=True)], width)
    panel.unit(unit)
    for one in transformations:
        panel.with_transformation(one)
    return panel


def matrix(row: str, column: str) -> DataTransformerConfig:
    """Turn one value a row into a table of rows and columns."""
    return DataTransformerConfig("groupingToMatrix", options={
        "rowField": row, "columnField": column, "valueField": "Value", "emptyValue": "null"})


def without(*fields: str) -> DataTransformerConfig:
    """Leave fields out."""
    return DataTransformerConfig("organize", options={"excludeByName": dict.fromkeys(fields, True)})


def choice(name: str, label: str, query: str, *, several: bool = False) -> dashboard.QueryVariable:
    """Return a variable whose values are those of a label."""
    variable = dashboard.QueryVariable(name).label(label).query({"query": query, "refId": name}).datasource(SOURCE)
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    if several:
        variable.multi(True).include_all(True).all_value(".*").current(VariableOption(selected=True, text="All", value="$__all"))
    return variable


def board(uid: str, title: str, text: str) -> dashboard.Dashboard:
    """Return a dashboard without panels, with the variables that both have."""
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    source.current(VariableOption(selected=True, text="streamil", value=PROVISIONED))
    built = dashboard.Dashboard(title).uid(uid).description(text).tags(["streamil"]).refresh("10s").time("now-1h", "now")
    built.tooltip(DashboardCursorSync.CROSSHAIR).timezone("browser").editable().with_variable(source)
    return built.with_variable(choice("experiment", "Experiment", "label_values(streamil_learned_samples, experiment)"))


def by_size() -> str:
    """Return the expression of the advantage at each mini-batch size, labelled by pair of algorithms and size."""
    sized = (f"label_replace(max by (experiment, arm, batch_size) (streamil_arm_info{{{RACE}}}), "
             '"challenger", "$1", "arm", "(.+)")')
    joined = (f'max by (experiment, challenger, baseline) (streamil_advantage_ratio{{{RACE}, scope="stream", bound="mean"}}) '
              f"* on (experiment, challenger) group_left (batch_size) {sized}")
    bare = f'label_replace(label_replace({joined}, "of", "$1", "challenger", "([^@]+).*"), "over", "$1", "baseline", "([^@]+).*")'
    return f'max by (pair, batch_size) (label_join({bare}, "pair", " against ", "of", "over"))'


def race() -> dashboard.Dashboard:
    """Return the dashboard of who is ahead."""
    built = board("streamil-race", "streamil: Race", "Who is ahead, and whether that lead is real: test-then-train accuracy of "
                  "every arm, the advantage of a challenger with its interval, verdicts.")
    built.with_variable(choice("arm", "Arm", f"label_values(streamil_arm_info{{{RACE}}}, arm)", several=True))
    built.with_variable(choice("challenger", "Challenger", f"label_values(streamil_verdict{{{RACE}}}, challenger)", several=True))
    built.with_variable(choice("baseline", "against", f'label_values(streamil_verdict{{{RACE}, challenger=~"$challenger"}}, baseline)',
                               several=True))
    built.annotation(dashboard.AnnotationQuery().name("Changes of the stream").datasource(SOURCE).enable(True).icon_color("gray")
                     .expr(f"changes(streamil_segment{{{RACE}}}[1m]) > 0"))
    verdict = number("Verdict", "Whether a lead is established: valid however often one looks.",
                     Query(f'streamil_verdict{{{PAIR}, scope="stream"}}', "{{challenger}} against {{baseline}}"), width=12)
    verdict.mappings([VERDICTS])
    built.with_panel(verdict)
    built.with_panel(number("Samples", "Samples taken in, over all restarts.", Query(f"streamil_learned_samples{{{RACE}}}", "samples"),
                            width=4))
    built.with_panel(number("Segment", "True segment of the newest sample: how often the stream has changed.",
                            Query(f"streamil_segment{{{RACE}}}", "segment"), width=4))
    built.with_panel(number("Diverged", "Members that stopped at their last finite weights.",
                            Query(f"sum(streamil_diverged_members{{{ARMS}}})", "members"), width=4))
    for window, text in (("windowed", "over the last samples (evaluation.window)"), ("cumulative", "over all samples")):
        built.with_panel(lines(f"Accuracy, {window}", f"Of the best member of each arm, {text}; test-then-train. Marks: changes of the stream.",
                               [Query(f'max by (arm) (streamil_prequential_accuracy_ratio{{{ARMS}, window="{window}"}})', "{{arm}}")],
                               "percentunit", high=1))
    advantage = lines("Advantage", "Mean difference of accuracy, challenger less baseline, and the bounds of its interval (stream so far).",
                      [Query(f'streamil_advantage_ratio{{{PAIR}, scope="stream", bound="{bound}"}}', f"{{{{challenger}}}} - {{{{baseline}}}}, {bound}")
                       for bound in ("mean", "lower", "upper")], "percentunit")
    advantage.override_by_regexp(".*(lower|upper)", [DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [4, 6]}),
                                                     DynamicConfigValue("custom.lineWidth", 1)])
    built.with_panel(advantage)
    segment = lines("Advantage since the last change", "The same since the stream last changed.",
                    [Query(f'streamil_advantage_ratio{{{PAIR}, scope="segment", bound="mean"}}', "{{challenger}} - {{baseline}}")], "percentunit")
    built.with_panel(segment)
    sizes: barchart.Panel = fill(barchart.Panel(), "Advantage against mini-batch size",
                                 "The question of the project: the same arms at several mini-batch sizes, on the same samples.",
                                 [Query(by_size(), instant=True, as_table=True)], 12)
    built.with_panel(sizes.unit("percentunit").x_field("batch_size\\pair").with_transformation(matrix("batch_size", "pair")))
    interval = (f'label_join(streamil_advantage_ratio{{{PAIR}, scope="stream"}}, "comparison", " against ", "challenger", "baseline")')
    built.with_panel(rows("Advantage and its interval", "Stream so far.", Query(f"max by (comparison, bound) ({interval})"),
                          [matrix("comparison", "bound")], "percentunit"))
    course: statetimeline.Panel = fill(statetimeline.Panel(), "Verdicts over time", "Of every comparison, stream so far.",
                                       [Query(f'streamil_verdict{{{RACE}, scope="stream"}}', "{{challenger}} against {{baseline}}")], 12)
    built.with_panel(course.mappings([VERDICTS]).show_value(VisibilityMode.NEVER))
    built.with_panel(rows("Samples to threshold", "How many samples the best member of each arm needed until its windowed accuracy was there; "
                          "empty: not reached.", Query(f"min by (arm, threshold) (streamil_samples_to_threshold{{{ARMS}}})"),
                          [matrix("arm", "threshold")]))
    built.with_panel(lines("Log-loss", "Mean cross-entropy before each update, of the best member of each arm.",
                           [Query(f"min by (arm) (streamil_loss{{{ARMS}}})", "{{arm}}")], "short", width=8, low=0))
    built.with_panel(lines("Kappa against no change", "Accuracy beyond repeating the last label, of the best member: 0 is as good as that.",
                           [Query(f'max by (arm) (streamil_prequential_kappa{{{ARMS}, kind="temporal"}})', "{{arm}}")], "short", width=8, high=1))
    built.with_panel(lines("Energy", "What inference left in the last mini-batch, mean over the members of each IL arm.",
                           [Query(f"avg by (arm) (streamil_energy{{{ARMS}}})", "{{arm}}")], "short", width=8, low=0))
    built.with_panel(rows("Hyperparameters", "Of every member that is shown.", Query(f"streamil_arm_info{{{ARMS}}}"),
                          [without("Time", "Value", "__name__", "job", "instance", "experiment")], width=24))
    return built


def service() -> dashboard.Dashboard:
    """Return the dashboard of how the processes do."""
    built = board("streamil-service", "streamil: Service", "How producer and consumer do: rates, lag, latency, snapshots, rejects, resources.")
    built.with_variable(choice("instance", "Instance", 'label_values({__name__=~"streamil_build_info|streamil_producer_samples_total"}, instance)',
                               several=True))
    alive = ValueMap({"1": ValueMappingResult("yes", "green", None, 0), "0": ValueMappingResult("no", "red", None, 1)})
    built.with_panel(number("Answers", "Whether Prometheus reaches it.", Query(f'up{{{HERE}, job=~"streamil.*"}}', "{{instance}}")).mappings([alive]))
    built.with_panel(number("Broker answers", "When the consumer asked it last.", Query(f"streamil_broker_available{{{HERE}}}", "{{instance}}")).mappings([alive]))
    built.with_panel(number("Behind", "Records on the topic not yet read.", Query(f"streamil_consumer_lag_records{{{HERE}}}", "{{instance}}")))
    built.with_panel(number("Last snapshot", "How long ago; without one: since 1970.", Query(
        f"time() - streamil_snapshot_last_success_timestamp_seconds{{{HERE}}}", "{{instance}}"), "s"))
    rate = "[$__rate_interval]"
    built.with_panel(lines("Samples learned a second", "Taken in by the consumer.", [
        Query(f"clamp_min(deriv(streamil_learned_samples{{{RACE}, {HERE}}}{rate}), 0)", "{{experiment}}, {{instance}}")], "short", low=0))
    built.with_panel(lines("Samples published a second", "By the producer, and how far it is behind its schedule.", [
        Query(f"rate(streamil_producer_samples_total{{{HERE}}}{rate})", "{{instance}}"),
        Query(f"streamil_producer_lag_seconds{{{HERE}}}", "{{instance}}, seconds behind")], "short", low=0))
    built.with_panel(lines("Lag", "Records on the topic not yet read, and waiting samples without label.", [
        Query(f"streamil_consumer_lag_records{{{HERE}}}", "{{instance}}, records"),
        Query(f"streamil_waiting_samples{{{HERE}}}", "{{instance}}, wait for a label")], "short", low=0))
    built.with_panel(lines("End-to-end latency", "From a record's time to its learning.", [
        Query(f"histogram_quantile({quantile}, sum by (le, instance) (rate(streamil_end_to_end_latency_seconds_bucket{{{HERE}}}{rate})))",
              f"{{{{instance}}}}, {name}") for quantile, name in ((0.5, "median"), (0.99, "99 %"))], "s", low=0))
    built.with_panel(lines("Time of an update", "Mean of each arm, all its members.", [
        Query(f"rate(streamil_update_duration_seconds_sum{{{HERE}}}{rate}) / rate(streamil_update_duration_seconds_count{{{HERE}}}{rate})",
              "{{arm}}, {{instance}}")], "s", low=0))
    built.with_panel(lines("Updates a second", "Of the first member of each arm that is shown.", [
        Query(f"max by (arm, instance) (rate(streamil_updates_total{{{RACE}, {HERE}}}{rate}))", "{{arm}}, {{instance}}")], "short", low=0))
    built.with_panel(lines("Rejected a second", "By reason; what was rejected is on the dead-letter topic.", [
        Query(f"sum by (reason, instance) (rate(streamil_records_rejected_total{{{HERE}}}{rate}))", "{{reason}}, {{instance}}")], "short", low=0))
    built.with_panel(lines("Repeats and late labels a second", "What came again and was skipped; what became of late labels.", [
        Query(f"rate(streamil_repeats_total{{{HERE}}}{rate})", "repeats, {{instance}}"),
        Query(f"rate(streamil_late_labels_total{{{HERE}}}{rate})", "{{result}}, {{instance}}")], "short", low=0))
    built.with_panel(lines("Snapshots", "Time to pack and write one, and how many failed in an hour.", [
        Query(f"streamil_snapshot_duration_seconds_sum{{{HERE}}} / streamil_snapshot_duration_seconds_count{{{HERE}}}", "mean seconds, {{instance}}"),
        Query(f"increase(streamil_snapshot_failures_total{{{HERE}}}[1h])", "failed, {{instance}}")], "short", low=0))
    built.with_panel(lines("Changes noticed", "By ADWIN in each arm's errors, in an hour.", [
        Query(f"increase(streamil_drift_events_total{{{RACE}, {HERE}}}[1h])", "{{arm}}, {{instance}}")], "short", low=0))
    built.with_panel(lines("Processor", "Cores in use.", [Query(f"rate(process_cpu_seconds_total{{{HERE}, job=~\"streamil.*\"}}{rate})", "{{instance}}")],
                           "short", width=8, low=0))
    built.with_panel(lines("Memory", "Resident.", [Query(f'process_resident_memory_bytes{{{HERE}, job=~"streamil.*"}}', "{{instance}}")], "bytes",
                           width=8, low=0))
    built.with_panel(lines("Open files", "Of how many may be open.", [
        Query(f'process_open_fds{{{HERE}, job=~"streamil.*"}} / process_max_fds{{{HERE}, job=~"streamil.*"}}', "{{instance}}")], "percentunit",
        width=8, low=0))
    return built


DASHBOARDS = {"race": race, "service": service}


def text(name: str) -> str:
    """Return the JSON of a dashboard."""
    built = DASHBOARDS[name]().build()
    for place, panel in enumerate(built.panels or (), start=1):
        panel.id_val = place
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


if __name__ == "__main__":
    for each in DASHBOARDS:
        (FOLDER / f"{each}.json").write_text(text(each))
        sys.stdout.write(f"{FOLDER / each}.json written\n")
