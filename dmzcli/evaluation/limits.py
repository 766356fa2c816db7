"""What can be said of a score before anything is imported to take it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dmzcli.errors import UserError, did_you_mean

METRICS = ("fid", "kid", "is", "prc")
FEWEST = 20
"""Images of either set that a score needs."""
SPLITS = ("train", "valid", "test")


def check_split(split: str) -> None:
    """Raises UserError unless there is such a split."""
    if split not in SPLITS:
        raise UserError(
            f"unknown split '{split}'; expected train, valid or test", did_you_mean(split, SPLITS)
        )


def check_count(count: int, zero: bool = False) -> None:
    """Raises UserError where so few images give no score; with ``zero``, 0 asks for none."""
    if count < FEWEST and not (zero and count == 0):
        raise UserError(
            f"--count {count} is too few for a score",
            f"at least {FEWEST} are needed{', or 0' if zero else ''}",
        )


def check_names(metrics: Sequence[str] | None) -> None:
    """Raises UserError where metrics are named and there are none, or one is unknown."""
    if metrics is not None and not metrics:
        raise UserError("there is no metric", f"name some of {', '.join(METRICS)}")
    for name in metrics or ():
        if name not in METRICS:
            raise UserError(f"unknown metric '{name}'", did_you_mean(name, METRICS, "metrics"))


def check_weights(weights: Path | None) -> None:
    """Raises UserError where the file of a network's weights is named and is not there."""
    if weights is not None:
        from dmzcli.system.reading import check_regular

        check_regular(weights)
