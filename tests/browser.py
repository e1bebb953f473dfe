"""A real Chromium without a window, spoken to over a pipe in its own protocol (Chrome DevTools)."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60


class Browser:
    """One page."""

    def __init__(self, process: subprocess.Popen[bytes], send: int, receive: int) -> None:
        self.process, self._send, self._receive = process, send, receive
        self._numbers, self._rest, self._session = itertools.count(1), b"", ""
        self.errors: list[str] = []
        self.requested: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Performance"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": self._session} if self._session else {})
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            got = self._next()
            if got.get("id") == number:
                if "error" in got:
                    raise RuntimeError(f"{method}: {got['error']}")
                return got["result"]
            self._note(got)

    def _note(self, got: dict[str, Any]) -> None:
        if got.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(got["params"]["exceptionDetails"])[:500])
        if got.get("method") == "Runtime.consoleAPICalled" and got["params"]["type"] == "error":
            self.errors.append(json.dumps(got["params"]["args"])[:500])
        if got.get("method") == "Network.requestWillBeSent":
            self.requested.append(got["params"]["request"]["url"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._receive, 1 << 16)
            if not part:
                raise RuntimeError("the browser has ended")
            self._rest += part
        one, _, self._rest = self._rest.partition(b"\0")
        return json.loads(one)

    def look(self, width: int = 1280, height: int = 1000, *, dark: bool = False) -> None:
        """Be as wide and as dark as this; a narrow one is a phone."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """Return what an expression is worth in the page."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:500])
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = SECONDS) -> Any:
        """Return what an expression is worth once it is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError):
                if found := self.ask(expression):
                    return found
            time.sleep(0.1)
        raise AssertionError(f"{expression} did not come true; errors: {self.errors}; state: {self.ask('document.body.innerText')[:500]}")

    def work(self) -> dict[str, float]:
        """Seconds of the page's own work so far: scripts, styles and layout."""
        found = {one["name"]: one["value"] for one in self._call("Performance.getMetrics")["metrics"]}
        return {"scripts": found["ScriptDuration"], "styles": found["RecalcStyleDuration"], "layout": found["LayoutDuration"]}

    def picture(self, path: Path, *, whole: bool = True) -> None:
        found = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **(
            {"clip": {**self._size(), "x": 0, "y": 0, "scale": 1}} if whole else {}))
        path.write_bytes(base64.b64decode(found["data"]))

    def _size(self) -> dict[str, float]:
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        return {"width": size["width"], "height": size["height"]}


def _pipe(theirs: int) -> tuple[int, ...]:
    """Return a pipe whose end for the browser stands above 9, clear of the descriptors that it gets."""
    ends = list(os.pipe())
    high = fcntl.fcntl(ends[theirs], fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(ends[theirs])
    ends[theirs] = high
    return tuple(ends)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start one with a profile of its own, and end it."""
    assert CHROMIUM, "there is no Chromium: apt-get install chromium"
    (commands, send), (receive, answers) = _pipe(0), _pipe(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # the browser reads from descriptor 3 and writes to 4
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{commands} 4>&{answers}', CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu",
             "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        try:
            yield Browser(process, send, receive)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(send)
            os.close(receive)
