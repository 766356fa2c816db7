"""The order in which the bits that differ between two codes are flipped, from one code to the other.

Any order passes through codes that agree with one of the two in every bit; which of these it passes is all that it
chooses. Importing this imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dmzcli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from priors import Prior

Array = np.ndarray
Order = Callable[[Array, Array, np.random.Generator, "Prior | None"], Array]
"""Two codes uint8 (D,), randomness of the pair's own, and a prior → the positions of the bits that differ, int64 (d,),
as they are flipped."""


def given(first: Array, second: Array, draw: np.random.Generator, prior: Prior | None) -> Array:
    """By their positions in the code."""
    return np.flatnonzero(first != second)


def random(first: Array, second: Array, draw: np.random.Generator, prior: Prior | None) -> Array:
    """At random."""
    return draw.permutation(given(first, second, draw, prior))


def greedy(first: Array, second: Array, draw: np.random.Generator, prior: Prior | None) -> Array:
    """Each time the bit whose flip gives the likeliest code under a prior; the first of equals."""
    if prior is None:
        raise UserError("the order 'greedy' needs a prior", "name a fitted one with --prior, or pass prior=")
    left, code, chosen = given(first, second, draw, prior), first.copy(), []
    while len(left):
        tried = np.tile(code, (len(left), 1))
        tried[np.arange(len(left)), left] ^= 1
        best = int(np.argmax(prior.log_prob(tried)))
        code = tried[best]
        chosen.append(left[best])
        left = np.delete(left, best)
    return np.array(chosen, np.int64)


ORDERS: dict[str, Order] = {"given": given, "random": random, "greedy": greedy}


def check_order(name: str) -> None:
    """Raises UserError unless there is such an order."""
    if name not in ORDERS:
        raise UserError(f"unknown order '{name}'", did_you_mean(name, ORDERS, "orders"))


def along(first: Array, order: Array, frames: int) -> Array:
    """The codes of ``frames`` frames: by frame f, ⌊d f / (F − 1)⌉ of the d bits are flipped.

    Arguments:
        first: uint8 (D,).
        order: int64 (d,), positions.
        frames: F ≥ 2.

    Returns:
        uint8 (F, D).
    """
    codes = np.tile(first, (frames, 1))
    for number, flipped in enumerate(np.rint(np.linspace(0, len(order), frames)).astype(np.int64)):
        codes[number, order[:flipped]] ^= 1
    return codes


def at_once(first: Array, second: Array, frames: int) -> Array:
    """All bits flipped together in the middle: what no interpolation of bits looks like, uint8 (F, D)."""
    half = frames // 2
    return np.concatenate([np.tile(first, (half, 1)), np.tile(second, (frames - half, 1))])
