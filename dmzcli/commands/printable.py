"""Text that may hold anything, such as the name of a file, made harmless for a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What changes the direction of the text around it."""


def printable(text: str) -> str:
    r"""The text with every control character but line feeds and tabs written out.

    Example:
        >>> printable("a\x1b[31mb\n")
        'a\\x1b[31mb\n'
    """
    if text.isprintable():
        return text
    return "".join(_written_out(c) if _dangerous(c) else c for c in text)


def _dangerous(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or character in _REORDERING


def _written_out(character: str) -> str:
    return character.encode(
        "unicode_escape" if ord(character) < 0xD800 else "ascii", "backslashreplace"
    ).decode()


def as_json(facts: Any) -> str:
    """One line of JSON that stdout can take, whatever its encoding, without a control character."""
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
    plain = text.isprintable() and text.isascii()
    if not plain and (printable(text) != text or not _encodes(text)):
        return json.dumps(facts, allow_nan=False)
    return text


def _encodes(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
