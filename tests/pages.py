"""The pages of the documentation, and the blocks of code in them: what the tests of the documentation share."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md", "*/README.md", "deploy/**/README.md", "streamil/*/data/README.md", "tests/*/README.md")
               for path in ROOT.glob(pattern))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w.-]+\.(?:py|yaml))\n")
PARTS = ("Equation", "Defaults, and why", "Source")
"""Headings that the page of each algorithm of ours has."""
_BROKER = ("from kafka import", "streamil_producer", "streamil_consumer", "streamil.attach")


@dataclass(frozen=True)
class Block:
    """A block of code in a page; `file` is the name that its first line gives it, if it does."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        named = _FILE.match(self.text)
        return named[1] if named else None

    @property
    def needs_broker(self) -> bool:
        return any(word in self.text for word in _BROKER)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str = "") -> list[Block]:
    """Return the page's blocks in that language, in order; all where none is named."""
    text = page.read_text(encoding="utf-8")
    found = [Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2]) for match in _BLOCK.finditer(text)]
    return [block for block in found if not language or block.language == language]


def blocks_of_all(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, language)]


def prose(page: Path) -> str:
    """Return the page without its blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def table(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    part = page.read_text(encoding="utf-8").partition(f"{heading}\n")[2]
    rows = re.search(r"(?:^\|.*\|\n)+", part, re.MULTILINE)
    assert rows, f"{page}: no table under {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows[0].splitlines()[2:]]


def assert_page_of_an_algorithm(page: Path, hyperparameters: list[list[str]], parts: Iterable[str]) -> None:
    """Hold a page to the rows of its hyperparameters, its parts, and an example."""
    assert table(page, "## Hyperparameters\n") == hyperparameters
    text = page.read_text(encoding="utf-8")
    assert [part for part in parts if f"\n## {part}\n" not in text] == []
    assert blocks(page, "python"), "an example that runs"


def run_block(text: str, folder: Path) -> None:
    """Run a block as a script, in this process."""
    script = folder / "block.py"
    script.write_text(text, encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")
