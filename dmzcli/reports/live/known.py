"""What is known of each bit already: from the bit table, and from ``dmz inspect`` where it was run."""

from __future__ import annotations

from typing import Any

from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError
from dmzcli.runs.run import Run
from dmzcli.system.files import read_json

SAYS = 3
"""Findings of a bit that are told."""
_NUMBERS = {"effect_gray_levels": "effect {:.1f} gray levels", "nats": "{:.3f} nats over time"}


def inspected(run: Run, dim: int) -> list[list[str]] | None:
    """Sentences on each bit of ``inspect.json``; ``None`` where there is none, or it is of other weights.

    Raises:
        UserError: The file is damaged.
    """
    file = run.path / "inspect.json"
    if not file.exists():
        return None
    facts = read_json(file)
    if facts.get("model") != run.weights_hash:
        return None
    try:
        return [_sentences(facts, bit) for bit in range(dim)]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} is not what dmz inspect writes: {error!r}", "make it anew, or delete it"
        ) from error


def _sentences(facts: dict[str, Any], bit: int) -> list[str]:
    own = facts["bits"][bit]
    said = []
    if own["constant"]:
        said.append("it never changes")
    for name, text in (("duplicate_of", "the same as bit {}"), ("negation_of", "the negation of bit {}")):
        if own[name] is not None:
            said.append(text.format(own[name]))
    said += [text.format(own[name]) for name, text in _NUMBERS.items() if own[name] is not None]
    tests = facts["tests"]
    found = [f for f in tests["findings"] if f["bit"] == bit and f["adjusted"] < tests["level"]]
    found.sort(key=lambda finding: -finding["information"])
    said += [f"tells {f['information']:.3f} bits of {f['factor']}" for f in found[:SAYS]]
    return said


def told(table: BitTable | None, sentences: list[list[str]] | None, dim: int) -> list[str]:
    """A line on each bit; empty where nothing is known."""
    lines = []
    for bit in range(dim):
        said = [] if table is None else [f"1 in {table.bits[:, bit].mean():.0%} of images"]
        said += [] if sentences is None else sentences[bit]
        lines.append("; ".join(said))
    return lines
