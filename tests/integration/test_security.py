"""Logins, certificates and permissions against a real broker; what is refused is told, and no secret goes anywhere."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attached import experiment_of, records_of, send
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from pages import ROOT
from processes import running, streamil
from secured import USERS, SecuredKafka

from streamil.credentials import KEY_PASSWORD, PASSWORD
from streamil.errors import BrokerRefused, BrokerUnavailable, ExperimentError
from streamil.experiment import Experiment, Kafka, load_kafka
from streamil.kafka import TopicReader, describe_topic, ensure_topic
from streamil.one_learner import Learner, attach

pytestmark = pytest.mark.kafka
CA = {"ca_file": "ca.pem"}
CLIENT = {**CA, "certificate_file": "client.crt", "key_file": "client.key"}


def login(mechanism: str = "SCRAM-SHA-512", user: str = "alice", of: str | None = None) -> dict[str, Any]:
    return {"mechanism": mechanism, "username": user, "password_file": f"{of or user}.password"}


@pytest.fixture(scope="module")
def secured(installed_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with SecuredKafka(tmp_path_factory.mktemp("secured")) as kafka:
        (kafka.folder / "key.password").write_text("key-secret-74")
        ensure_topic(Kafka(bootstrap_servers=kafka.address), "known")
        yield kafka


@pytest.mark.parametrize(("door", "given"), [
    ("SASL", {"login": login("PLAIN")}), ("SASL", {"login": login("SCRAM-SHA-256")}), ("SASL", {"login": login()}),
    ("SASLTLS", {"login": login(user="bob"), "tls": CA}), ("TLS", {"tls": CA}), ("STALE", {"tls": {**CA, "check_hostname": False}}),
    ("MUTUAL", {"tls": {**CA, "certificate_file": "client.pem"}}), ("MUTUAL", {"tls": {**CLIENT, "key_password_file": "key.password"}}),
])
def test_a_client_comes_in(secured: SecuredKafka, door: str, given: dict[str, Any]) -> None:
    kafka = secured.at(door, **given)
    assert describe_topic(kafka, "known").partitions == 1
    with TopicReader(kafka, "known") as reader:
        assert reader.poll(1, 10) == [] and reader.end() == 0 and reader.reachable


@pytest.mark.parametrize(("door", "given", "tells"), [
    *[("SASL", {"login": login(mechanism, of="bob")}, "the broker refuses the user or the password .user 'alice', "
       f"{mechanism}.: correct kafka.login: username, password_file or {PASSWORD}") for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")],
    ("SASLTLS", {"login": login(user="nobody", of="bob"), "tls": CA}, "the broker refuses the user or the password"),
    ("SASLTLS", {"login": login("PLAIN"), "tls": CA}, "the broker takes no login by this mechanism .*correct kafka.login.mechanism"),
    ("TLS", {"tls": {}}, "nobody we trust vouches for the broker's certificate: name the certificate of who does in kafka.tls.ca_file"),
    ("SASLTLS", {"login": login(), "tls": {"ca_file": "strangers.pem"}}, "nobody we trust vouches for the broker's certificate"),
    ("STALE", {"tls": CA}, "the broker's certificate is for another address"),
    ("MUTUAL", {"tls": CA}, "the broker wants a certificate of ours"),
    ("TLS", {}, "the broker wants TLS on this port: set kafka.tls"),
    ("SASLTLS", {"login": login()}, "the broker wants TLS on this port"),
    ("TLS", {"tls": CA, "login": login()}, "the broker wants no login on this port"),
])
def test_a_refusal_is_told_from_an_absent_broker(secured: SecuredKafka, door: str, given: dict[str, Any], tells: str) -> None:
    kafka = secured.at(door, **given)
    with pytest.raises(BrokerRefused, match=rf"^the Kafka broker at {kafka.bootstrap_servers} is there, but {tells}") as caught:
        describe_topic(kafka, "known", timeout_ms=2000)
    assert "\n" not in str(caught.value) and not any(secret in str(caught.value) for secret in USERS.values())


def test_what_may_be_either_says_so(secured: SecuredKafka) -> None:
    for door, given, tells in (("SASL", {}, "it closes the connection, perhaps for want of a login: see kafka.login"),
                               ("SASL", {"tls": CA}, "it closes the connection, perhaps as it speaks no TLS on this port")):
        with pytest.raises(BrokerUnavailable, match=tells):
            describe_topic(secured.at(door, **given), "known", timeout_ms=2000)
    absent = secured.at("SASL", login=login()).model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(BrokerUnavailable, match=r"no Kafka broker answers at 127\.0\.0\.1:1 \(the connection was refused\)"):
        describe_topic(absent, "known", timeout_ms=1000)


def test_an_encrypted_key_asks_nobody_for_its_password(secured: SecuredKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_PASSWORD, raising=False)
    kafka = secured.at("MUTUAL", tls=CLIENT)
    with pytest.raises(ExperimentError, match=f"the private key is encrypted: name a file .*{KEY_PASSWORD}"):
        describe_topic(kafka, "known")
    monkeypatch.setenv(KEY_PASSWORD, "not it")
    with pytest.raises(ExperimentError, match=r"client\.key: no PEM that can be read, or another password than the key's$"):
        describe_topic(kafka, "known")
    monkeypatch.setenv(KEY_PASSWORD, "key-secret-74")
    assert describe_topic(kafka, "known").name == "known"


def file_of(experiment: Experiment, folder: Path, **kafka: Any) -> Path:
    written = experiment.model_dump(mode="json", exclude={"stream": {"source": {"part"}}}) | {"kafka": kafka}
    file = folder / "race.yaml"
    file.write_text(json.dumps(written))
    return file


def test_a_race_through_a_secured_broker_leaves_its_secrets_nowhere(secured: SecuredKafka, topic: str, tmp_path: Path) -> None:
    experiment = experiment_of(Kafka(), topic, tmp_path, service={"predictions": {}})
    file = file_of(experiment, tmp_path, bootstrap_servers=f"127.0.0.1:{secured.doors['SASLTLS']}", tls={"ca_file": str(secured.folder / "ca.pem")},
                   login={"username": "bob"})
    environment = {PASSWORD: USERS["bob"]}
    published = streamil("produce", file, "--metrics", "127.0.0.1:0", **environment)
    assert published.returncode == 0, published.stderr
    send(Kafka(bootstrap_servers=secured.address), topic, [(b"no record", {})])  # for a dead letter
    with running("consume", file, "--until", 401, "--metrics", "127.0.0.1:0", "--out", tmp_path / "out", **environment) as one:
        url = re.search(r"http://[\d.:]+", one.wait_for("metrics and page at"))[0]
        one.wait_for("rejected")
        pages = [urllib.request.urlopen(f"{url}/{page}").read() for page in ("metrics", "status.json", "")]
        one.end()
        said = "\n".join(one.lines)
    assert "after 400 samples" in said
    left = {path: path.read_bytes() for path in tmp_path.glob("**/*") if path.is_file()}
    assert any(path.suffix == ".snapshot" for path in left) and tmp_path / "out" / "summary.json" in left
    for where, content in {**left, **dict(enumerate(pages)), "said": said.encode(), "published": (published.stdout + published.stderr).encode()}.items():
        assert USERS["bob"].encode() not in content, where
    for name in (f"{topic}.predictions", f"{topic}.dead"):
        assert describe_topic(Kafka(bootstrap_servers=secured.address), name).partitions >= 1


def test_waiting_for_a_broker_does_not_wait_for_a_password(secured: SecuredKafka, topic: str, tmp_path: Path) -> None:
    file = file_of(experiment_of(Kafka(), topic, tmp_path), tmp_path, bootstrap_servers=f"127.0.0.1:{secured.doors['SASL']}", login={"username": "bob"})
    started = time.monotonic()
    done = streamil("consume", file, "--wait", 300, "--metrics", "127.0.0.1:0", **{PASSWORD: "not-the-password"})
    assert time.monotonic() - started < 60 and done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: the Kafka broker at") and "refuses the user or the password (user 'bob', SCRAM-SHA-512)" in last
    assert "not-the-password" not in done.stdout + done.stderr


def test_one_learner_comes_in_by_a_file_of_the_broker_alone(secured: SecuredKafka, topic: str, tmp_path: Path) -> None:
    send(Kafka(bootstrap_servers=secured.address), topic, [(json.dumps({"a": n, "b": -n, "y": n % 2}).encode(), {}) for n in range(20)])
    file = secured.folder / "kafka.yaml"
    file.write_text(json.dumps({"bootstrap_servers": f"127.0.0.1:{secured.doors['SASLTLS']}", "tls": CA, "login": login()}))
    done = streamil("learn", "--kafka", file, "--topic", topic, "--label", "y", "--until", 20, "--snapshots", tmp_path / "s", "--metrics", "127.0.0.1:0")
    assert done.returncode == 0 and "done after 20 samples" in done.stderr, done.stderr
    learner = Learner("il-prox", features=["a", "b"])
    with attach(learner, topic=topic, label="y", kafka=load_kafka(file), until=20) as attachment:
        for arrived in attachment:
            learner.learn(arrived)
    assert learner.race.samples == 20


def test_a_password_changed_under_a_consumer_is_waited_for(installed_kafka: None, tmp_path: Path) -> None:
    with SecuredKafka(tmp_path / "kafka") as own:
        experiment = experiment_of(Kafka(), "rotated", tmp_path)
        password = own.folder / "alice.password"
        file = file_of(experiment, tmp_path, bootstrap_servers=f"127.0.0.1:{own.doors['SASL']}",
                       login={"username": "alice", "password_file": str(password)})
        sent = records_of(experiment)
        send(Kafka(bootstrap_servers=own.address), "rotated", sent[:20])
        with running("consume", file, "--metrics", "127.0.0.1:0", "--until", 400) as one:
            url = re.search(r"http://[\d.:]+", one.wait_for("metrics and page at"))[0]
            one.wait_for("learning from topic rotated")
            own.passwords = {**USERS, "alice": "alice-secret-new"}
            own.set_passwords(own.passwords)  # what is connected stays so
            own.stop()
            own.start()
            one.wait_for("is there, but the broker refuses the user or the password: correct kafka.login", 60)
            send(Kafka(bootstrap_servers=own.address), "rotated", sent[20:])
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(f"{url}/readyz", timeout=5)
            password.write_text("alice-secret-new")
            assert one.process.wait(60) == 0
            one.reader.join(10)
        said = "\n".join(one.lines)
        assert "done after 400 samples" in said and "alice-secret" not in said and said.count("is there, but") == 1


def allow(secured: SecuredKafka, lines: list[tuple[str, str, str]]) -> None:
    """Allow dave what lines of `(kind, name, operations)` say."""
    with closing(KafkaAdminClient(bootstrap_servers=secured.address)) as client:
        found = client.create_acls([
            ACL("User:dave", "*", ACLOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation.strip()).upper()], ACLPermissionType.ALLOW, ResourcePattern(ResourceType[kind.upper()], name))
            for kind, name, operations in lines for operation in operations.split(",")])
        assert not found["failed"], found


def test_the_permissions_of_the_page_are_enough(secured: SecuredKafka, topic: str, tmp_path: Path) -> None:
    """The table of docs/security.md, in which T is the topic and E the experiment; their names differ."""
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")]
            for line in (ROOT / "docs" / "security.md").read_text().splitlines() if re.match(r"\| (producer|consumer)", line)]
    names = {"T": topic, "T.dead": f"{topic}.dead", "E": f"{topic}-race", "E.predictions": f"{topic}-race.predictions"}
    experiment = experiment_of(Kafka(), f"{topic}-race", tmp_path, service={"predictions": {}}, stream={"topic": topic})
    file = file_of(experiment, tmp_path, bootstrap_servers=f"127.0.0.1:{secured.doors['SASL']}",
                   login={"username": "dave", "password_file": str(secured.folder / "dave.password")})

    def publish() -> Any:
        return streamil("produce", file, "--metrics", "127.0.0.1:0")

    def consume(until: int) -> Any:
        return streamil("consume", file, "--metrics", "127.0.0.1:0", "--until", until)

    refused = publish()
    assert refused.returncode == 1 and refused.stderr.splitlines()[-1].startswith(f"error: topic '{topic}' on 127.0.0.1"), refused.stderr
    assert "the broker does not allow it (user 'dave', SCRAM-SHA-512): " in refused.stderr
    allow(secured, [(kind, names[name], operations) for who, kind, name, operations in rows if who == "producer"])
    assert (done := publish()).returncode == 0, done.stderr
    refused = consume(400)
    assert refused.returncode == 1 and "the broker does not allow it (user 'dave'" in refused.stderr, refused.stderr
    allow(secured, [(kind, names[name], operations) for who, kind, name, operations in rows if who == "consumer"])
    send(Kafka(bootstrap_servers=secured.address), topic, [(b"no record", {})])
    done = consume(400)
    assert done.returncode == 0 and "done after 400 samples" in done.stderr, done.stderr
    with closing(KafkaAdminClient(bootstrap_servers=secured.address)) as client:
        offsets = client.list_group_offsets({names["E"]: None})
    assert names["E"] in str(offsets) and topic in str(offsets), "the group's position stands there, for those who watch the lag"
