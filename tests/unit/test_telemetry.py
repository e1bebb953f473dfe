import contextlib
import gzip
import json
import socket
import time
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streamil.codec import REASONS
from streamil.errors import ExperimentError, TelemetryError
from streamil.experiment import Experiment
from streamil.race import Race
from streamil.samples import Records
from streamil.telemetry import exposition, listener
from streamil.telemetry.client import fetch_status
from streamil.telemetry.metrics import Histogram, RaceMetrics
from streamil.telemetry.server import Server


@pytest.fixture
def telemetry():
    metrics = RaceMetrics()
    experiment = Experiment.model_validate({
        "name": 'odd "name"\n', "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [4]},
        "arms": {"il": {"algorithm": "il-prox", "alpha": [0.1, 5]}, "bp": {"algorithm": "bp-sgd"}}})
    race = Race(experiment, lock=metrics.lock, timed=metrics.timed)
    metrics.watch(race)
    return metrics


@pytest.fixture
def serve():
    servers = []

    def start(metrics, **more):
        servers.append(Server("127.0.0.1:0", metrics, lambda: {"samples": 3}, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def scrape(server):
    families = text_string_to_metric_families(get(f"{server.url}/metrics"))
    return {(sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples}


def value(samples, name, **labels):
    found = [number for (key, *pairs), number in samples.items()
             if key == name and labels.items() <= dict(pairs).items()]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def learn(race, count=20):
    random = np.random.default_rng(0)
    race.feed(Records(y=random.choice(["a", "b"], count).tolist(), x=random.normal(size=(count, 3))), np.arange(count))


def test_every_reason_stands_at_0_from_the_start(telemetry, serve):
    samples = scrape(serve(telemetry))
    for reason in REASONS:
        assert value(samples, "streamil_records_rejected_total", reason=reason) == 0


def test_metrics_are_those_of_the_race(telemetry, serve):
    race = telemetry.race
    learn(race)
    samples = scrape(serve(telemetry))
    assert value(samples, "streamil_learned_samples") == 20
    assert value(samples, "streamil_correct_total", arm="il", member="1") == race.arms["il"].figures.correct[1]
    assert value(samples, "streamil_prequential_accuracy_ratio", arm="bp", window="cumulative") == pytest.approx(
        float(race.arms["bp"].figures.cumulative[0]), abs=0)
    assert value(samples, "streamil_updates_total", arm="bp") == 20
    assert value(samples, "streamil_update_duration_seconds_count", arm="bp") == 20
    assert value(samples, "streamil_arm_info", arm="il", member="1", alpha="5.0", batch_size="1", algorithm="il-prox") == 1
    comparison = race.comparisons["il", "bp"].summary()
    assert value(samples, "streamil_advantage_ratio", bound="upper", scope="stream") == comparison["upper"]
    assert value(samples, "streamil_verdict", scope="stream") == 0


def test_undefined_values_are_absent(telemetry, serve):
    assert not [key for key in scrape(serve(telemetry)) if key[0] == "streamil_prequential_accuracy_ratio"]


def test_a_large_population_shows_its_best_median_and_worst(serve):
    metrics = RaceMetrics()
    rates = [0.0001 * 1.5**place for place in range(21)]
    race = Race(Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}}, "network": {"hidden": []},
        "arms": {"bp": {"algorithm": "bp-sgd", "learning_rate": rates}}}), lock=metrics.lock, timed=metrics.timed)
    metrics.watch(race)
    learn(race, 60)
    samples = scrape(serve(metrics))
    correct = sorted(race.arms["bp"].figures.correct.tolist())
    for member, expected in (("best", correct[-1]), ("median", correct[10]), ("worst", correct[0])):
        assert value(samples, "streamil_correct_total", member=member) == expected


def test_the_multiprocess_variable_of_others_changes_nothing(telemetry, serve, monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    learn(telemetry.race)
    assert value(scrape(serve(telemetry)), "streamil_learned_samples") == 20
    assert list(tmp_path.iterdir()) == []


def test_a_histogram_counts_by_upper_bound():
    histogram = Histogram((0.1, 1.0))
    for seconds, times in ((0.1, 2), (0.5, 1), (7.0, 3)):
        histogram.observe(seconds, times)
    assert histogram.buckets() == [("0.1", 2), ("1.0", 3), ("+Inf", 6)]
    assert histogram.sum == pytest.approx(21.7)


@pytest.mark.parametrize(("sent", "counted"), [
    (-0.001, 0), (0.0, 0), (1_700_000_000.0, 1), (time.time() + 3_000, 1), (time.time() + 100_000, 0)])
def test_record_times_that_cannot_be_true_are_skipped_and_counted(telemetry, sent, counted):
    telemetry.observe_latency(sent, time.time(), 5)
    assert telemetry.latency.counts.sum() == 5 * counted
    assert telemetry.latency_skipped == 5 * (1 - counted)
    assert telemetry.latency.sum >= 0


def test_a_taken_address_is_one_clear_error(telemetry, serve):
    taken = serve(telemetry).url.removeprefix("http://")
    with pytest.raises(TelemetryError, match=f"{taken}: Address already in use"):
        Server(taken, telemetry, dict)
    with pytest.raises(TelemetryError, match=r"192\.0\.2\.1:9"):
        Server("192.0.2.1:9", telemetry, dict)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999", ":9108", ""])
def test_an_address_that_is_none_is_wrong_usage(telemetry, address):
    with pytest.raises(ExperimentError, match=f"^--metrics: found '{address}'; allowed: host:port"):
        Server(address, telemetry, dict)


def test_an_address_may_be_one_of_ipv6(telemetry):
    try:
        server = Server("[::1]:0", telemetry, lambda: {"samples": 3})
    except TelemetryError as error:
        pytest.skip(str(error))
    with contextlib.closing(server):
        assert server.url.startswith("http://[::1]:") and fetch_status(server.url) == {"samples": 3}


def test_health_and_paths(telemetry, serve):
    ready = []
    server = serve(telemetry, ready=lambda: bool(ready))
    assert get(f"{server.url}/livez") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(f"{server.url}/readyz")
    ready.append(1)
    assert get(f"{server.url}/readyz") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{server.url}/../../etc/passwd")
    assert json.loads(get(f"{server.url}/status.json")) == fetch_status(server.url) == {"samples": 3}
    for path in ("", "charts.js", "plotly.js", "pictures.json"):  # without pictures there is no page
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{server.url}/{path}")


def asked(server, method, path, **headers):
    """Ask without a library that would drop what should not be there; return the head and the body."""
    with socket.create_connection(server._listener.server_address[:2], timeout=5) as client:
        client.sendall("".join([f"{method} {path} HTTP/1.1\r\nHost: x\r\n", *(
            f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()), "\r\n"]).encode())
        head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
    return head.decode(), body


def test_a_head_has_no_body_and_nothing_can_be_changed(telemetry, serve):
    server = serve(telemetry, pictures=lambda: {})
    for path in ("/", "/metrics", "/livez", "/nothing"):
        head, body = asked(server, "HEAD", path)
        assert body == b"" and "Content-Length: 0" not in head
        assert head.split()[1] == asked(server, "GET", path)[0].split()[1]
        for method in ("POST", "DELETE", "PUT", "OPTIONS"):
            head, _ = asked(server, method, path)
            assert head.split()[1] == "405" and "Allow: GET, HEAD" in head


@pytest.mark.parametrize(("accepted", "zipped"), [
    ("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0, identity", False), ("gzip ; q=0.00", False), ("gzip;q=0.01", True), ("br", False)])
def test_the_page_is_compressed_for_who_takes_that(telemetry, serve, accepted, zipped):
    head, body = asked(serve(telemetry, pictures=lambda: {}), "GET", "/", Accept_Encoding=accepted)
    assert ("Content-Encoding: gzip" in head) == zipped == (body[:2] == b"\x1f\x8b") and "Vary: Accept-Encoding" in head


def test_the_page_and_its_parts(telemetry, serve):
    server = serve(telemetry, pictures=lambda: {"arms": []})
    for path, holds in (("", 'id="accuracy"'), ("page.js", "pictures.json"), ("charts.js", "streamilCharts"), ("style.css", "--il"),
                        ("plotly.js", "plotly.js v"), ("pictures.json", '{"arms": []}')):
        request = urllib.request.Request(f"{server.url}/{path}", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            body = answer.read()
            zipped = answer.headers["Content-Encoding"] == "gzip"
            assert zipped == (path != "pictures.json")
            assert holds in (gzip.decompress(body) if zipped else body).decode() and holds in get(f"{server.url}/{path}")
            assert path == "pictures.json" or "default-src 'self'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cache-Control"] == ("max-age=3600" if path == "plotly.js" else "no-store")


def test_what_an_update_did_is_exported_where_it_is_asked_for(telemetry):
    race = Race(Experiment.model_validate({
        "name": "looked", "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [4]}, "evaluation": {"diagnostics": {"every": 5}},
        "arms": {"il": {"algorithm": "il-prox", "seeds": 2}}}))
    telemetry.watch(race)
    luck = np.random.default_rng(0)
    race.feed(Records(y=["a", "b"] * 30, x=luck.normal(size=(60, 3))), np.arange(60))
    samples = {(one.name, *sorted(one.labels.items())): one.value for family in telemetry.collect() for one in family.samples}
    last = race.arms["il"].diagnostics.last
    assert value(samples, "streamil_alignment_loss", member="1", when="after") == last["loss_after"][1]
    assert value(samples, "streamil_alignment_implicit_cosine", layer="2") == last["implicit_cosine_2"][0]  # the first seed alone
    assert value(samples, "streamil_alignment_looks", arm="il") == race.arms["il"].diagnostics.looks > 5
    assert not [key for key in samples if "alignment" in key[0] and samples[key] != samples[key]]


def test_silent_clients_do_not_keep_others_out_for_ever(telemetry, serve, monkeypatch):
    monkeypatch.setattr(listener._Handler, "timeout", 0.5)
    server = serve(telemetry)
    host, port = server.url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(listener.CLIENTS_LIMIT + 8)]
    try:
        deadline = time.monotonic() + 10
        while fetch_status(server.url) is None:
            assert time.monotonic() < deadline
    finally:
        for client in silent:
            client.close()


def test_nobody_there_is_no_status():
    assert fetch_status("http://127.0.0.1:9") is None


def test_counters_start_at_0_with_the_process_whatever_was_learned_before(telemetry, serve):
    race = telemetry.race
    learn(race)
    later = RaceMetrics()
    later.watch(race)
    samples = scrape(serve(later))
    assert value(samples, "streamil_learned_samples") == 20
    assert value(samples, "streamil_samples_total", arm="bp", member="0") == 0 == value(samples, "streamil_correct_total", arm="bp", member="0")
    learn(race)
    assert value(scrape(serve(later)), "streamil_samples_total", arm="bp", member="0") == 20


def test_thresholds_are_shown_once_they_are_reached_and_seconds_for_those_of_this_process() -> None:
    experiment = Experiment.model_validate({
        "stream": {"source": {"kind": "elec"}}, "arms": {"bp": {"algorithm": "bp-sgd"}}, "evaluation": {"window": 10, "thresholds": [0.0, 0.5, 1.0]}})
    records = Records(y=["a"] * 30, columns={"v": [float(n) for n in range(30)]})

    def shown(telemetry: RaceMetrics, name: str) -> dict[str, float]:
        return {sample.labels["threshold"]: sample.value for metric in telemetry.collect() if metric.name == name for sample in metric.samples}

    def watched(state: Any = None) -> tuple[RaceMetrics, Race]:
        telemetry = RaceMetrics()
        race = Race(experiment, lock=telemetry.lock, timed=telemetry.timed)
        if state is not None:
            race.load_state_dict(state)
        telemetry.watch(race)
        return telemetry, race

    telemetry, race = watched()
    race.feed(records[:10], np.arange(10))
    assert shown(telemetry, "streamil_samples_to_threshold") == {"0": 10, "0.5": 10}
    again, later = watched(race.state_dict())
    later.feed(records[10:], np.arange(10, 30))
    assert shown(again, "streamil_samples_to_threshold") == {"0": 10, "0.5": 10, "1": 11}
    seconds = shown(again, "streamil_seconds_to_threshold")
    assert seconds.keys() == {"1"} and 0 < seconds["1"] < 60, "what an earlier process reached took seconds of its own"
    assert shown(telemetry, "streamil_seconds_to_threshold").keys() == {"0", "0.5"}


def test_a_member_costs_no_more_than_40_series_and_a_comparison_no_more_than_10():
    def series(arms, thresholds=20):
        experiment = Experiment.model_validate({
            "stream": {"source": {"kind": "elec"}}, "network": {"hidden": [4]}, "arms": arms,
            "evaluation": {"window": 10, "thresholds": [place / 1000 for place in range(thresholds)], "diagnostics": {"every": 5}}})
        metrics = RaceMetrics()
        race = Race(experiment, lock=metrics.lock, timed=metrics.timed)
        metrics.watch(race)
        learn(race, 60)
        return sum(len(family.samples) for family in metrics.collect()), len(race.comparisons)

    il, bp = {"algorithm": "il-prox"}, {"algorithm": "bp-sgd"}
    one, _ = series({"il": il})
    five, _ = series({"il": il | {"seeds": 5}})
    assert (five - one) / 4 <= 40 + 2 * 16 + 9, "with 20 thresholds and the diagnostics beside it"
    few = [series({"il": il | {"seeds": seeds}}, thresholds=4)[0] for seeds in (1, 5)]
    assert (few[1] - few[0]) / 4 <= 40
    two, compared = series({"il": il, "bp": bp})
    alone, _ = series({"bp": bp})
    assert compared == 1 and two - one - alone + common(il) <= 10


def common(il):
    """Series that a race has whatever its arms are."""
    metrics = RaceMetrics()
    race = Race(Experiment.model_validate({"stream": {"source": {"kind": "elec"}}, "arms": {"il": il}}), lock=metrics.lock)
    metrics.watch(race)
    return sum(len(family.samples) for family in metrics.collect() if not {"arm", "member"} & set().union(*(s.labels for s in family.samples)))


def test_a_process_without_snapshots_has_no_time_of_the_last_one(telemetry):
    name = "streamil_snapshot_last_success_timestamp_seconds"
    for keeps, expected in ((True, [0.0]), (False, [])):
        telemetry.keeps_snapshots = keeps
        assert [sample.value for family in telemetry.collect() if family.name == name for sample in family.samples] == expected


def test_whether_the_broker_answers_is_a_gauge(telemetry, serve):
    assert value(scrape(serve(telemetry)), "streamil_broker_available") == 1
    telemetry.broker_away = lambda: True
    assert value(scrape(serve(telemetry)), "streamil_broker_available") == 0


def test_energy_is_that_of_the_members_of_inference_learning(telemetry, serve):
    race = telemetry.race
    learn(race)
    samples = scrape(serve(telemetry))
    assert value(samples, "streamil_energy", arm="il", member="1") == pytest.approx(float(race.arms["il"].population.energy[1]))
    assert not [key for key in samples if key[0] == "streamil_energy" and ("arm", "bp") in key]


def test_the_text_says_what_the_librarys_own_encoder_says(telemetry, serve):
    hostile = 'a "b"\\ \n c'
    families = [CounterMetricFamily("learned", 'Text with \\ and\nlines.', labels=["arm", "member"]), GaugeMetricFamily("none", "Nothing."),
                GaugeMetricFamily("one", "One.", 1e-12), HistogramMetricFamily("seconds", "Time.", [("0.5", 1.0), ("+Inf", 2.0)], 3.5),
                InfoMetricFamily("build", "Versions.", {"version": hostile})]
    families[0].add_metric([hostile, "0"], 12_345_678.0)
    families[0].add_metric(["ü", "1"], float("nan"))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(type("Fixed", (Collector,), {"collect": lambda self: families})())
    assert exposition.encode(families) == generate_latest(registry)
    assert urllib.request.urlopen(f"{serve(telemetry).url}/metrics", timeout=5).headers["Content-Type"] == exposition.KIND
