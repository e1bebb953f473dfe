"""Draws docs/regimes/NAME.png, what each regime does to a stream: `python docs/regimes.py [NAME ...]`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from streamil.demo_regimes import DEMO_REGIMES
from streamil.experiment import Stream
from streamil.experiment.regimes import Drift
from streamil.samples import Records
from streamil.streams import open_stream, pack
from streamil.streams.regimes.drift import concepts_of

FOLDER = Path(__file__).with_suffix("")
MNIST = {"kind": "mnist"}
GREY = "#cccccc"
RED = "#d7191c"
COLOURS = 64
"""Of a picture: few are enough, and keep the file small."""


def stream(limit: int, regimes: list[dict[str, Any]], source: Mapping[str, Any] = MNIST) -> Records:
    """Return the first samples of a stream, the demo's unless another source is named."""
    shuffle = [{"kind": "single-pass"}] if source is MNIST else []
    made = Stream.model_validate({"source": source, "seed": 1, "limit": limit, "regimes": [*shuffle, *regimes]})
    return next(pack(open_stream(made, Path()), limit))


def draw(name: str, folder: Path = FOLDER) -> Path:
    """Draw the picture of one regime and return its path."""
    figure = Figure(figsize=(8, PICTURES[name][0]), layout="constrained")
    PICTURES[name][1](figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=90)
    path = folder / f"{name}.png"
    Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def _raster(axes: Axes, labels: Any, title: str, colours: Any = None, height: float = 0.8) -> None:
    """Draw each sample as a stroke: its place across, its class upwards, its colour by class unless given."""
    rows = np.array([int(label) for label in labels])
    colours = matplotlib.colormaps["tab10"](rows) if colours is None else colours
    width = 0.8 if len(rows) <= 600 else 0.5
    axes.vlines(np.arange(len(rows)), rows - height / 2, rows + height / 2, colors=colours, linewidth=width)
    axes.set_xlim(-0.5, len(rows) - 0.5)
    classes = int(rows.max()) + 1
    axes.set(yticks=range(0, classes, 1 if classes < 5 else 3), ylim=(-0.6, classes - 0.4))
    axes.set_ylabel("class", fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(labelsize=8)


def _two(figure: Figure, before: Any, after: Any, titles: tuple[str, str]) -> tuple[Axes, Axes]:
    upper, lower = figure.subplots(2, 1, sharex=True)
    _raster(upper, before, titles[0])
    _raster(lower, after, titles[1])
    lower.set_xlabel("samples", fontsize=8)
    return upper, lower


def _single_pass(figure: Figure) -> None:
    elec = {"kind": "elec"}
    _two(figure, stream(500, [], elec).y, stream(500, [{"kind": "single-pass"}], elec).y,
         ("Elec2 in its own order: the price is up (1) or down (0) for hours", "single-pass: shuffled"))


def _correlated(figure: Figure) -> None:
    _two(figure, stream(1500, []).y, stream(1500, DEMO_REGIMES["correlated"]).y,
         ("digits, shuffled", "correlated, dwell 50"))


def _class_incremental(figure: Figure) -> None:
    after = stream(8000, DEMO_REGIMES["class-incremental"])
    _, lower = _two(figure, stream(8000, []).y, after.y,
                    ("digits, shuffled", "class-incremental, 2 classes and 1,000 samples a block; lines: segments"))
    _changes(lower, after)


def _drift(figure: Figure) -> None:
    grid = figure.add_gridspec(5, 1, height_ratios=(3, 1, 1, 1, 4))
    plain = stream(4000, []).y
    labels = stream(4000, [{"kind": "drift", "what": "labels", "every": 1000}])
    top = figure.add_subplot(grid[0])
    _raster(top, labels.y, "what: labels, every 1,000. Colour: the digit; place: its label",
            matplotlib.colormaps["tab10"]([int(label) for label in plain]))
    _changes(top, labels)
    for row, (how, width) in enumerate({"abrupt": None, "gradual": 600, "recurring": 200}.items(), 1):
        axes = figure.add_subplot(grid[row], sharex=top)
        settings = Drift(kind="drift", what="labels", how=how, every=1000, width=width)
        concepts, _ = concepts_of(np.arange(4000), settings, np.random.default_rng(1).random(4000))
        axes.vlines(np.arange(4000), 0, 1, colors=matplotlib.colormaps["Set2"](concepts), linewidth=0.5)
        axes.set(yticks=[], ylim=(0, 1))
        width_told = f", width {width}" if width else ""
        axes.set_title(f"how: {how}, every 1,000{width_told}. Colour: the concept", fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
    axes.set_xlabel("samples", fontsize=8)
    images = grid[4].subgridspec(2, 9)
    for row, what in enumerate(("rotation", "features")):
        seen = stream(9, [{"kind": "drift", "what": what, "every": 2}])
        for column in range(9):
            panel = figure.add_subplot(images[row, column])
            _digit(panel, seen.x[column])
            panel.set_title(f"concept {column // 2}", fontsize=7)
            if column == 0:
                panel.set_ylabel(what, fontsize=8)


def _long_tail(figure: Figure) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    after = stream(3000, DEMO_REGIMES["long-tail"]).y
    _raster(left, after, "long-tail, exponent 1")
    left.set_xlabel("samples", fontsize=8)
    classes = list(dict.fromkeys(stream(3000, []).y))
    counts = [after.count(label) for label in classes]
    right.bar(range(len(classes)), counts, color=matplotlib.colormaps["tab10"]([int(label) for label in classes]))
    right.set_xticks(range(len(classes)), classes)
    right.set_xlabel("class, by rank", fontsize=8)
    right.set_title("samples of each", fontsize=9, loc="left")
    right.tick_params(labelsize=8)


def _noisy_senses(figure: Figure) -> None:
    sigmas = (0.0, 0.1, 0.3, 0.6)
    panels = figure.subplots(len(sigmas), 12)
    for row, sigma in enumerate(sigmas):
        images = stream(12, [{"kind": "noisy-senses", "sigma": sigma}]).x
        for column in range(12):
            _digit(panels[row, column], images[column])
        panels[row, 0].set_ylabel(f"sigma {sigma:g}", fontsize=8)


def _noisy_labels(figure: Figure) -> None:
    plain, after = stream(600, []).y, stream(600, DEMO_REGIMES["noisy-labels"]).y
    wrong = np.array(plain) != np.array(after)
    _raster(figure.subplots(), after, "noisy-labels, rate 0.2. Red: not the digit's own", np.where(wrong, RED, GREY))
    figure.axes[0].set_xlabel("samples", fontsize=8)


def _sparse_labels(figure: Figure) -> None:
    plain, after = stream(600, []).y, stream(600, DEMO_REGIMES["sparse-labels"]).y
    colours = matplotlib.colormaps["tab10"]([int(label) for label in plain])
    colours[[label is None for label in after]] = matplotlib.colors.to_rgba(GREY)
    _raster(figure.subplots(), plain, "sparse-labels, keep 0.1. Grey: without a label", colours)
    figure.axes[0].set_xlabel("samples", fontsize=8)


def _limited(figure: Figure) -> None:
    after = stream(2000, [{"kind": "limited", "samples": 500, "repeats": 4}])
    places = {image.tobytes(): place for place, image in reversed(list(enumerate(after.x[:500])))}
    axes = figure.subplots()
    axes.scatter(range(2000), [places[image.tobytes()] for image in after.x], s=1, color="#1b9e77")
    axes.set(xlim=(0, 2000), ylim=(0, 500))
    axes.set_xlabel("samples", fontsize=8)
    axes.set_ylabel("place in the source", fontsize=8)
    axes.set_title("limited, 500 samples, 4 repeats; lines: segments", fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    _changes(axes, after)


def _bursty(figure: Figure) -> None:
    axes = figure.subplots()
    for burst, colour in ((50, "#1b9e77"), (1, "#d95f02")):
        t = stream(3000, [{"kind": "bursty", "rate": 1000, "burst": burst}]).t
        axes.step(t, np.arange(1, 3001), where="post", color=colour, label=f"burst {burst}", linewidth=1.2)
    axes.plot([0, 3], [0, 3000], color="#888888", linewidth=0.8, linestyle=":", label="1,000 a second")
    axes.set(xlim=(0, None), ylim=(0, 3000))
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel("samples due", fontsize=8)
    axes.set_title("bursty, rate 1000", fontsize=9, loc="left")
    axes.legend(fontsize=8)
    axes.tick_params(labelsize=8)


def _delayed_labels(figure: Figure) -> None:
    made = Stream.model_validate({"source": MNIST, "seed": 1, "limit": 400, "regimes": [
        {"kind": "single-pass"}, {"kind": "delayed-labels", "samples": 100, "together": 8}]})
    axes, at = figure.subplots(), 0
    for records in open_stream(made, Path()):
        if records.late:
            rows = [int(name) for name in records.ids]
            axes.hlines(rows, rows, at, color=GREY, linewidth=0.6)
            axes.scatter([at] * len(rows), rows, s=3, color=RED, zorder=3)
        else:
            axes.scatter(range(at, at + len(records)), range(at, at + len(records)), s=3, color="#1b9e77", zorder=3)
            at += len(records)
    axes.set(xlim=(0, 400), ylim=(0, 400))
    axes.set_xlabel("samples that have come", fontsize=8)
    axes.set_ylabel("sample", fontsize=8)
    title = "delayed-labels, 100 samples, 8 together. Green: a sample comes; red: its label"
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(labelsize=8)


def _digit(axes: Axes, image: Any) -> None:
    axes.imshow(image.reshape(28, 28), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _changes(axes: Axes, records: Records) -> None:
    """Draw a line wherever the segment changes."""
    for place in np.flatnonzero(np.diff(records.segment)):
        axes.axvline(place + 0.5, color="black", linewidth=0.8)


PICTURES: Mapping[str, tuple[float, Callable[[Figure], None]]] = {
    "single-pass": (1.9, _single_pass), "correlated": (3, _correlated), "class-incremental": (3, _class_incremental),
    "drift": (6.2, _drift), "long-tail": (2.4, _long_tail), "noisy-senses": (3, _noisy_senses),
    "noisy-labels": (1.9, _noisy_labels), "sparse-labels": (1.9, _sparse_labels), "limited": (2.4, _limited),
    "bursty": (2.6, _bursty), "delayed-labels": (2.6, _delayed_labels),
}
"""Name of a regime -> height of its picture in inches, and what draws it."""

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for regime in sys.argv[1:] or PICTURES:
        sys.stdout.write(f"{draw(regime)} written\n")
