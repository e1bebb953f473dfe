"""Who may ask for metrics and page, by what certificate and token, and what hostile requests cost."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from processes import streamil

from streamil.credentials import TOKEN
from streamil.errors import ExperimentError, TelemetryError
from streamil.experiment.http import Http
from streamil.telemetry import listener, sparing
from streamil.telemetry.access import Access
from streamil.telemetry.client import Ask, fetch_status
from streamil.telemetry.producer import ProducerMetrics
from streamil.telemetry.server import Server
from streamil.telemetry.sparing import Sparing

SECRET = "tok-en/of=mine"
Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    folder, made = tmp_path_factory.mktemp("certificates"), trustme.CA()
    made.cert_pem.write_to_path(str(folder / "ca.pem"))
    made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    made.issue_cert("somebody").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    return made, folder


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as held:
        def start(access: Access | None = None, **more: Any) -> Server:
            server = Server("127.0.0.1:0", ProducerMetrics(), lambda: {"samples": 3, "lag_seconds": 0.0}, access=access, **more)
            held.callback(server.close)
            return server

        yield start


def status_of(url: str, authorization: str | None = None, context: ssl.SSLContext | None = None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def basic(password: str, user: str = "anyone") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(("authorization", "code"), [
    (f"Bearer {SECRET}", 200), (f"bearer {SECRET}", 200), (basic(SECRET), 200), (basic(SECRET, ""), 200),
    (None, 401), ("Bearer", 401), ("Bearer ", 401), (f"Bearer {SECRET}x", 401), (f"Bearer {SECRET[:-1]}", 401), (SECRET, 401),
    (f"Token {SECRET}", 401), (basic("other"), 401), (basic("x", SECRET), 401), ("Basic %%%", 401), ("Basic /w==", 401), ("Bearer \xff\xfe", 401)])
def test_everything_but_health_wants_the_token(serve: Serve, authorization: str | None, code: int) -> None:
    server = serve(Access(token=SECRET), pictures=lambda: {"arms": []})
    for path in ("/metrics", "/status.json", "/", "/pictures.json", "/plotly.js"):
        assert status_of(server.url + path, authorization) == code, path
    assert status_of(server.url + "/nothing", authorization) == (404 if code == 200 else 401), "a stranger learns no paths"
    for path in ("/livez", "/readyz"):
        assert status_of(server.url + path, authorization) == 200


def test_without_a_token_nothing_is_wanted(serve: Serve) -> None:
    assert status_of(serve().url + "/metrics", "Bearer whatever") == 200


@pytest.mark.parametrize("content", ["two words", "umläut", "", "line\nline"])
def test_a_token_that_no_header_can_carry_is_refused_without_being_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    with pytest.raises(ExperimentError) as refused:
        Access.of(Http(token_file=tmp_path / "token"))
    assert not content or content not in str(refused.value)


def test_the_token_comes_from_its_file_or_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Access.of(Http()) == Access(None, None)
    monkeypatch.setenv(TOKEN, "of-the-environment")
    assert Access.of(Http()).token == "of-the-environment"
    (tmp_path / "token").write_text(f"{SECRET}\n")
    assert Access.of(Http(token_file=tmp_path / "token")).token == SECRET
    with pytest.raises(ValueError, match=f"name that as token_file, or put it into the environment as {TOKEN}"):
        Http.model_validate({"token": SECRET})


def test_tls_shows_the_certificate_and_may_want_one(authority: tuple[trustme.CA, Path], serve: Serve) -> None:
    folder = authority[1]
    http_of = {"certificate_file": folder / "server.pem"}
    server = serve(Access.of(Http.model_validate({"tls": http_of})))
    assert server.url.startswith("https://")
    trusting = ssl.create_default_context(cafile=folder / "ca.pem")
    assert status_of(server.url + "/metrics", context=trusting) == 200
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        status_of(server.url + "/metrics")
    with pytest.raises((http.client.HTTPException, OSError)):
        urllib.request.urlopen(server.url.replace("https", "http") + "/metrics", timeout=5)
    wary = serve(Access.of(Http.model_validate({"tls": http_of | {"client_ca_file": folder / "ca.pem"}})))
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        status_of(wary.url + "/metrics", context=trusting)
    trusting.load_cert_chain(folder / "client.pem")
    assert status_of(wary.url + "/metrics", context=trusting) == 200


@pytest.mark.parametrize(("files", "text"), [
    ({"certificate_file": "nothing.pem"}, "service.http.tls: .*nothing.pem: No such file"),
    ({"certificate_file": "ca.pem"}, "service.http.tls: .*ca.pem"),
    ({"certificate_file": "server.pem", "key_file": "client.pem"}, "the key is not the certificate's"),
    ({"certificate_file": "server.pem", "client_ca_file": "nothing.pem"}, "client_ca_file: .*nothing.pem: No such file")])
def test_files_that_are_no_certificates_are_one_line(authority: tuple[trustme.CA, Path], files: dict[str, str], text: str) -> None:
    with pytest.raises(ExperimentError, match=text):
        Access.of(Http.model_validate({"tls": {key: authority[1] / name for key, name in files.items()}}))


def test_status_shows_its_token_and_checks_who_it_is_shown_to(authority: tuple[trustme.CA, Path], serve: Serve, tmp_path: Path) -> None:
    folder = authority[1]
    server = serve(Access.of(Http.model_validate({"tls": {"certificate_file": folder / "server.pem"}}))._replace(token=SECRET))
    (tmp_path / "token").write_text(SECRET)
    known = ("--ca-file", folder / "ca.pem")
    done = streamil("status", server.url, "--json", *known, "--token-file", tmp_path / "token")
    assert done.returncode == 0 and json.loads(done.stdout) == {"samples": 3, "lag_seconds": 0.0}, done.stderr
    assert streamil("status", server.url, *known, **{TOKEN: SECRET}).returncode == 0
    for arguments, text in ((known, "wants a token: name its file with --token-file"), (("--token-file", tmp_path / "token"), "its certificate is not one we trust")):
        done = streamil("status", server.url, *arguments)
        assert done.returncode == 1 and text in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    done = streamil("status", server.url, *known, **{TOKEN: "another"})
    assert "wants another token" in done.stderr and "another\n" not in done.stderr


def test_a_redirection_gets_no_token() -> None:
    asked: list[Any] = []

    def answer(environ: dict[str, Any], start: Any) -> list[bytes]:
        asked.append((environ["PATH_INFO"], environ.get("HTTP_AUTHORIZATION")))
        start("302 Found", [("Location", "/elsewhere")])
        return [b""]

    server = listener.Listener(("127.0.0.1", 0))
    server.set_app(answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        assert Ask(f"http://127.0.0.1:{server.server_port}", SECRET).status() is None
    finally:
        server.shutdown(), server.server_close()
    assert asked == [("/status.json", f"Bearer {SECRET}")]


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch_status(serve().url) == {"samples": 3, "lag_seconds": 0.0}


def connection(server: Server) -> socket.socket:
    host, port = server.url.split("//")[1].split(":")
    return socket.create_connection((host, int(port)), 10)


def test_a_request_that_drips_is_ended(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps every timeout of a read from passing: the whole request has one."""
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.5)
    with connection(serve()) as slow:
        start = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - start < 10:
                slow.sendall(b"G")
                slow.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    if slow.recv(1) == b"":
                        break
    assert time.monotonic() - start < 5


def test_a_tls_handshake_that_drips_keeps_nobody_out(authority: tuple[trustme.CA, Path], serve: Serve) -> None:
    folder = authority[1]
    server = serve(Access.of(Http.model_validate({"tls": {"certificate_file": folder / "server.pem"}})))
    with connection(server), connection(server):
        assert status_of(server.url + "/livez", context=ssl.create_default_context(cafile=folder / "ca.pem")) == 200


@pytest.mark.parametrize("request_of", [
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"y" * 500_000 + b"\r\n\r\n", b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"z" * 1_000_000,
    b"\x00\xff" * 5000, b"GET /metrics HTTP/9.9\r\n\r\n", b"\r\n" * 1000])
def test_huge_and_senseless_requests_leave_it_answering(serve: Serve, request_of: bytes) -> None:
    server = serve()
    with connection(server) as client, contextlib.suppress(OSError):
        client.sendall(request_of)
        client.shutdown(socket.SHUT_WR)
        received = 0
        while part := client.recv(1 << 16):
            received += len(part)
            assert received < 1 << 20
    assert status_of(server.url + "/livez") == 200


def test_a_flood_is_answered_at_a_bounded_rate(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "BURST", 10)
    monkeypatch.setattr(listener, "RATE", 2)
    server = serve()
    start = time.monotonic()
    answers = sum(status_of(server.url + "/livez") == 200 for _ in range(16))
    assert answers == 16, "who comes too soon waits"
    assert time.monotonic() - start > 6 / 2 - 0.1


def test_what_is_made_under_the_lock_is_made_for_a_share_of_the_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(sparing.time, "monotonic", lambda: now[0])
    made: list[float] = []

    def make() -> int:
        made.append(now[0])
        now[0] += 0.1
        return len(made)

    ask = Sparing(make)
    assert [ask(), ask()] == [1, 1]
    now[0] = 100.1 + 0.1 / sparing.SHARE - 0.01
    assert ask() == 1
    now[0] += 0.02
    assert ask() == 2


def test_while_learning_is_busy_the_last_answer_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparing, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(sparing, "SHARE", 1e9)
    lock, value = threading.Lock(), [1]

    def make() -> int:
        with sparing.paused(lock):
            return value[0]

    ask = Sparing(make)
    with lock:
        first = threading.Thread(target=lambda: value.append(ask()))
        first.start()
        first.join(0.3)
        assert first.is_alive(), "the first answer is waited for"
    first.join(5)
    assert value == [1, 1]
    value[0] = 2
    with lock:
        assert ask() == 1
    assert ask() == 2


def test_an_error_while_it_is_made_is_the_askers_and_the_next_one_is_made_anew() -> None:
    answers: list[Any] = [ValueError("once"), 7]

    def make() -> int:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return int(found)

    ask = Sparing(make)
    with pytest.raises(ValueError, match="once"):
        ask()
    assert ask() == 7


SERVING = """
import sys, time
from streamil.telemetry.producer import ProducerMetrics
from streamil.telemetry.server import Server
print(Server(sys.argv[1], ProducerMetrics(), dict).url, flush=True)
time.sleep(60)
"""


def test_the_port_of_a_killed_process_is_free_at_once() -> None:
    """Ten times, with a client connected: its connection lingers, the address does not."""
    address = "127.0.0.1:0"
    for _ in range(10):
        process = subprocess.Popen([sys.executable, "-c", SERVING, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stderr is not None
        with process.stdout, process.stderr:
            url = process.stdout.readline().strip()
            assert url, process.stderr.read()
            address = url.removeprefix("http://")
            with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), 5) as client:
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert client.recv(8) == b"HTTP/1.0"
                process.kill()
                process.wait()


def test_process_metrics_are_there_and_none_of_the_shared_registry(serve: Serve) -> None:
    with urllib.request.urlopen(serve().url + "/metrics", timeout=5) as answer:
        text = answer.read().decode()
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"):
        assert f"\n{name} " in text
    assert "python_gc_objects" not in text


def test_what_answers_there_may_be_anything() -> None:
    for answer in (b"", b"nonsense\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n{", b"HTTP/1.0 500 No\r\n\r\n"):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def once(server: socket.socket = server, answer: bytes = answer) -> None:
                client, _ = server.accept()
                with client:
                    client.recv(1 << 16)
                    client.sendall(answer)

            thread = threading.Thread(target=once, daemon=True)
            thread.start()
            assert fetch_status(f"http://127.0.0.1:{server.getsockname()[1]}") is None
            thread.join(5)


def test_a_token_asked_for_is_an_error_of_telemetry(serve: Serve) -> None:
    with pytest.raises(TelemetryError, match="wants a token"):
        fetch_status(serve(Access(token=SECRET)).url)
