"""Makes the screenshots of page, terminal and report: `python docs/screenshots.py` (needs Chromium, as Debian has it).

They are of a real race: a Kafka of its own, a producer and a consumer process, the page while it runs and at its end.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI

from streamil.live_view import race_view
from streamil.local_kafka import LocalKafka
from streamil.report.page import write_report
from streamil.telemetry.client import fetch_pictures, fetch_status

HERE = Path(__file__).parent / "pictures"
sys.path.insert(0, str(HERE.parent.parent / "tests"))
from browser import Browser, browser  # noqa: E402

SAMPLES = 10_000
COMMAND = [sys.executable, "-m", "streamil"]


def main() -> None:
    """Run the race, and take the pictures on the way."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with LocalKafka(out / "kafka") as kafka, browser() as page:
            file = out / "drift.yaml"
            file.write_text((HERE / "drift.yaml").read_text() + f'kafka: {{bootstrap_servers: "{kafka.address}"}}\n')
            consumer = subprocess.Popen(
                [*COMMAND, "consume", str(file), "--wait", "60", "--until", str(SAMPLES), "--out", str(out / "results"),
                 "--metrics", "127.0.0.1:0", "--stay"], stderr=subprocess.PIPE, text=True)
            producer = subprocess.Popen([*COMMAND, "produce", str(file), "--metrics", "127.0.0.1:0"],
                                        stderr=subprocess.DEVNULL)
            try:
                shots(page, address(consumer), out / "results")
            finally:
                for process in (producer, consumer):
                    process.terminate()
                    process.wait(30)


def address(consumer: subprocess.Popen[str]) -> str:
    """Return where the consumer serves its page."""
    assert consumer.stderr is not None
    for line in consumer.stderr:
        found = re.search(r"metrics and page at (http://\S+?)/$", line.strip())
        if found:
            return found[1]
    raise SystemExit("the consumer has ended")


def wait(url: str, samples: int) -> dict[str, Any]:
    """Wait until so many samples are taken in, and return how the race stands."""
    while True:
        status = fetch_status(url)
        if status is not None and status["samples"] >= samples and (samples < SAMPLES or status["state"] == "done"):
            return status
        time.sleep(0.2)


def shots(page: Browser, url: str, results: Path) -> None:
    """Take all pictures: on the way, and at the end."""
    status = wait(url, int(0.6 * SAMPLES))
    terminal(page, status, fetch_pictures(url) or {}, results)
    shot(page, url, "page-phone-dark.png", width=390, dark=True, height=1500)
    status = wait(url, SAMPLES)
    shot(page, url, "page.png", width=1100)
    shot(page, write_report(results).as_uri(), "report.png", width=1100, height=2400)
    for line in status["answer"]:
        print(line)


def shot(page: Browser, url: str, name: str, *, width: int, dark: bool = False, height: int | None = None) -> None:
    """Take one picture of a page, whole unless a height is given."""
    page.look(width, height or 1000, dark=dark)
    page.open("about:blank")
    page.open(url)
    page.until("document.body.dataset.drawn")
    time.sleep(1)
    page.picture(HERE / name, whole=height is None)
    print(HERE / name)


def terminal(page: Browser, status: dict[str, Any], pictures: dict[str, Any], folder: Path) -> None:
    """Draw what `streamil status --watch` shows."""
    screen = Console(record=True, width=132, file=io.StringIO(), force_terminal=True)
    screen.print(race_view(status, pictures))
    written = folder / "terminal.html"
    folder.mkdir(exist_ok=True)
    written.write_text(screen.export_html(theme=MONOKAI, inline_styles=True), encoding="utf-8")
    page.look(1300, 300)
    page.open(written.as_uri())
    page.until("document.querySelector('pre') !== null")
    page.picture(HERE / "terminal.png")
    print(HERE / "terminal.png")


if __name__ == "__main__":
    main()
