"""`streamil status`, against real processes; and case K03 as it is written: by commands."""

from __future__ import annotations

import http.server
import json
import re
import threading
from contextlib import closing
from pathlib import Path

import pytest
from attached import experiment_of
from kafka import KafkaProducer
from processes import running, streamil, until

from streamil.experiment import Kafka
from streamil.kafka import ensure_topic
from streamil.report.lines import status_lines


def url_of(one: object) -> str:
    return re.search(r"http://[\d.:]+", one.wait_for("metrics and page at"))[0]


@pytest.mark.kafka
def test_a_log_that_ends_in_a_marker_is_caught_up_and_a_restart_waits_behind_it(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    ensure_topic(kafka_settings, topic)
    with closing(KafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers, transactional_id=topic)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for number in range(10):
            producer.send(topic, json.dumps({"x": [number], "y": number % 2}).encode())
        producer.commit_transaction()
    learn = ("learn", "--topic", topic, "--label", "y", "--x", "x", "--bootstrap-servers", kafka_settings.bootstrap_servers,
             "--snapshots", tmp_path, "--metrics", "127.0.0.1:0")
    done = streamil(*learn, "--until", 10)
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        with running(*learn) as one:
            url = url_of(one)
            one.wait_for(f"learning from topic {topic}")
            assert "from offset 1" in one.wait_for("learning from") and "after 10 samples of the snapshot" in one.wait_for("learning from")
            until(lambda at=url: "learning" in streamil("status", at).stdout, 30, one)
            lines = until(lambda at=url: found if "caught up" in (found := streamil("status", at).stdout) else "", 30, one).splitlines()
            assert lines[0] == f"{topic}: learning; topic {topic}, offset 11, caught up, lag 0"
            assert lines[1].startswith("10 samples, 0.0 a second; 0 rejected, 0 repeats, 0 wait for their label, 0 snapshots failed")
            assert re.fullmatch(r"  learner  0\.\d{4}, the last ones 0\.\d{4}", lines[2])
            assert json.loads(streamil("status", url, "--json").stdout)["lag"] == 0
            assert one.end()[0] == 130


@pytest.mark.kafka
def test_a_producer_has_a_status_too(kafka_settings: Kafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(kafka_settings, topic, tmp_path, stream={"rate": 50})
    file = tmp_path / "race.yaml"
    file.write_text(json.dumps(experiment.model_dump(mode="json", exclude={"stream": {"source": {"part"}}})))
    with running("produce", file, "--metrics", "127.0.0.1:0") as one:
        address = re.search(r"127[\d.:]+(?=/metrics)", one.wait_for("publishing to topic"))[0]
        until(lambda: re.match(r"producer: \d+ samples published, 0\.\d s behind its schedule", streamil("status", address).stdout), 30, one)


@pytest.mark.parametrize(("answer", "tells"), [
    (b"{}", "what answers there is no streamil of this version"), (b"[1]", "no streamil"), (b"\xff", "no streamil answers at"),
    (b'{"lag_seconds": "x", "samples": 1}', "no streamil of this version"), (b"9" * (2 << 20), "no streamil"),
])
def test_another_server_is_told(answer: bytes, tells: str) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = streamil("status", f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 1 and tells in done.stderr and done.stderr.count("\n") == 1 and done.stdout == ""


def test_nobody_there_is_told() -> None:
    for address in ("127.0.0.1:1", "http://127.0.0.1:1/", "file:///etc/hostname", "nonsense"):
        done = streamil("status", address)
        assert done.returncode == 1 and "no streamil answers at" in done.stderr and "Traceback" not in done.stderr


def test_a_status_says_what_is_wrong_and_moves_no_terminal() -> None:
    status = {"experiment": "a\x1b[2J", "topic": "t", "state": "learning", "broker_away": True, "offset": 7, "lag": 1200, "samples": 5,
              "samples_per_second": 2.0, "rejected": 1, "repeats": 0, "waiting_for_labels": 0, "snapshot_failures": 3, "comparisons": [],
              "arms": [{"arm": "il", "members": 2, "diverged": 1, "best": {"accuracy": 0.5, "windowed": 0.25}},
                       {"arm": "b", "members": 1, "diverged": 0, "best": {"accuracy": None, "windowed": None}}]}
    assert list(status_lines(status)) == [
        "a\\x1b[2J: learning, the broker does not answer; topic t, offset 7, lag 1,200",
        "5 samples, 2.0 a second; 1 rejected, 0 repeats, 0 wait for their label, 3 snapshots failed",
        "  il  0.5000, the last ones 0.2500, best of 2; 1 diverged", "  b   no full mini-batch yet"]
