"""Logins and certificates: what a file may say, where secrets come from, and that no error repeats one."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest
import trustme

from streamil.credentials import KEY_PASSWORD, PASSWORD, secret
from streamil.errors import ExperimentError
from streamil.experiment import Kafka, load_experiment, load_kafka
from streamil.kafka.access import REFUSALS, access, refusal

SECRET = "s3cret-of-mine"


def kafka(tmp_path: Path, **given: object) -> Kafka:
    file = tmp_path / "kafka.yaml"
    file.write_text(json.dumps(given))
    return load_kafka(file)


def login(**given: object) -> dict[str, object]:
    return {"login": {"username": "alice", **given}}


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "race.yaml"
    file.write_text("stream: {source: {kind: mnist}}\narms: {bp: {algorithm: bp-sgd}}\n"
                    "kafka: {tls: {ca_file: ../ca.pem}, login: {username: alice, password_file: /run/secret}}")
    found = load_experiment(file).kafka
    assert found.tls is not None and found.tls.ca_file == tmp_path / "deep" / ".." / "ca.pem"
    assert found.login is not None and found.login.password_file == Path("/run/secret")


@pytest.mark.parametrize(("given", "tells"), [
    ({"password": SECRET}, "kafka.yaml: the file: a password does not stand in an experiment file"),
    (login(password=SECRET), "line 1: login: a password does not stand in an experiment file: write it to a file of its own and name that as "
                             f"password_file, or put it into the environment as {PASSWORD}"),
    ({"tls": {"key_password": SECRET}}, f"line 1: tls: a key_password does not stand in an experiment file: .*{KEY_PASSWORD}"),
    (login(pasword=SECRET), "login.pasword: unknown key .nearest known: password_file.; allowed: mechanism, username, password_file$"),
    ({"login": f"alice:{SECRET}"}, "login: keys are wanted here: mechanism, username, password_file$"),
    ({"login": [SECRET]}, "login: keys are wanted here"),
    ({"sasl_plain_password": SECRET}, "sasl_plain_password: unknown key; allowed: bootstrap_servers, start, fetch_bytes, tls, login$"),
    (login(mechanism="GSSAPI"), "login.mechanism: input should be 'SCRAM-SHA-512', 'SCRAM-SHA-256' or 'PLAIN'; found 'GSSAPI'"),
    (login(username="a\0b"), "login.username: string should match pattern"),
    ({"tls": {"key_file": "key.pem"}}, "tls: key_file is the key of a certificate_file, and none is named"),
    ({"tls": True}, "tls: keys are wanted here: ca_file, check_hostname, certificate_file, key_file, key_password_file"),
])
def test_what_a_file_may_not_say_is_told_and_no_secret_repeated(tmp_path: Path, given: dict[str, object], tells: str) -> None:
    with pytest.raises(ExperimentError, match=tells) as caught:
        kafka(tmp_path, **given)
    assert SECRET not in str(caught.value) and len(caught.value.problems) == 1


@pytest.mark.parametrize("content", [SECRET, f"{SECRET}\n", f"{SECRET}\r\n"])
def test_a_password_comes_from_its_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "password").write_bytes(content.encode())
    named = kafka(tmp_path, **login(password_file="password"))
    monkeypatch.setenv(PASSWORD, "of-the-environment")
    assert access(named)["sasl_plain_password"] == SECRET, "what the file names counts"
    assert access(kafka(tmp_path, **login()))["sasl_plain_password"] == "of-the-environment"
    (tmp_path / "password").write_text("another")
    assert access(named)["sasl_plain_password"] == "another", "it is read when a client comes in"
    for text in (str(named), repr(named), named.model_dump_json()):
        assert SECRET not in text


@pytest.mark.parametrize(("content", "tells"), [
    (b"", "holds no secret"), (b"\n", "holds no secret"), (b"x" * 5000, "longer than 4096 bytes"), (b"a\0b", "or binary"),
    (b"\xff\xfe", "is not UTF-8 text"), (None, "No such file or directory"),
])
def test_a_file_without_a_password_is_told(tmp_path: Path, content: bytes | None, tells: str) -> None:
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    with pytest.raises(ExperimentError, match=f"^kafka.login.password_file: {tmp_path}/password: .*{tells}"):
        access(kafka(tmp_path, **login(password_file="password")))


def test_no_password_anywhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(ExperimentError, match=f"kafka.login: no password: name a file in password_file, or set {PASSWORD}"):
        access(kafka(tmp_path, **login()))
    monkeypatch.setenv(PASSWORD, "")
    with pytest.raises(ExperimentError, match=f"{PASSWORD}: holds no secret"):
        access(kafka(tmp_path, **login()))
    assert secret("key", None, "STREAMIL_NOT_SET") is None


def test_each_way_in_has_its_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, SECRET)
    found = [access(kafka(tmp_path, **given))["security_protocol"]
             for given in ({}, {"tls": {}}, login(), {"tls": {}, **login()})]
    assert found == ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


def test_certificates_are_checked_unless_told_otherwise(tmp_path: Path) -> None:
    context = access(kafka(tmp_path, tls={}))["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname and context.minimum_version >= ssl.TLSVersion.TLSv1_2
    context = access(kafka(tmp_path, tls={"check_hostname": False}))["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED and not context.check_hostname


def test_files_of_certificates_that_are_none_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issued, other = (trustme.CA().issue_cert("a.example") for _ in range(2))
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    (tmp_path / "text.pem").write_text(SECRET)
    monkeypatch.setenv(KEY_PASSWORD, SECRET)
    mine = {"certificate_file": "certificate.pem"}
    assert access(kafka(tmp_path, tls={**mine, "key_file": "key.pem"}))["security_protocol"] == "SSL"
    for tls, tells in (
            ({"ca_file": "none.pem"}, "kafka.tls.ca_file: .*none.pem: No such file or directory"),
            ({"ca_file": "text.pem"}, "kafka.tls.ca_file: .*text.pem: holds no certificate"),
            (mine, "kafka.tls: .*certificate.pem: "),
            ({**mine, "key_file": "none.pem"}, "kafka.tls: .*none.pem: No such file or directory"),
            ({**mine, "key_file": "other.pem"}, "kafka.tls: .*other.pem: the key is not the certificate's"),
            ({**mine, "key_file": "text.pem"}, "kafka.tls: .*text.pem: ")):
        with pytest.raises(ExperimentError, match=tells) as caught:
            access(kafka(tmp_path, tls=tls))
        assert SECRET not in str(caught.value)


def test_the_newest_line_that_tells_counts() -> None:
    lines = ["Bootstrap failed", "[Error 58] SaslAuthenticationFailedError: no", "CERTIFICATE_VERIFY_FAILED: Hostname mismatch", "closed"]
    found = refusal(lines)
    assert found is not None and found.meaning == "the broker's certificate is for another address"
    assert refusal(["Connection failed: ECONNREFUSED", "socket disconnected"]) is None
    assert all(one.meaning.startswith(("the broker", "nobody we trust")) for one in REFUSALS)
