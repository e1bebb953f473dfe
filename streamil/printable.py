"""Texts of others, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return the text with everything that moves a terminal, or has no form in UTF-8, escaped.

    Examples
    --------
    >>> printable("größe" + chr(27) + chr(0xD800))
    'größe\\x1b\\ud800'
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
