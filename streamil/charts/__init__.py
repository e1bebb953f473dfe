"""What draws a race in a browser, the live page and the report alike: style, charts, and plotly's own script."""

from __future__ import annotations

from importlib.resources import files


def plotly_script() -> bytes:
    """Return plotly's script as its installed package holds it, so that no page needs the internet."""
    return files("plotly").joinpath("package_data/plotly.min.js").read_bytes()


def charts_script() -> bytes:
    """Return the script that draws what `streamil.pictures` describes."""
    return files(__package__).joinpath("charts.js").read_bytes()


def charts_fragment() -> str:
    """Return the part of a page that the charts are drawn into, hidden until they are."""
    return files(__package__).joinpath("charts.html").read_text(encoding="utf-8")


def style() -> bytes:
    """Return the style sheet, for light and dark."""
    return files(__package__).joinpath("style.css").read_bytes()
