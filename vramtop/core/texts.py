"""Texts by strangers: commands, names and messages that must not steer a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Without control characters, half surrogates and marks that turn the writing around."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)
