"""Orders of the bits of a code for models that go through them one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from priors.arrays import Bits, Integers
from priors.parts import trees


def find(
    given: Sequence[int] | None, ordering: str, member: int, bits: Bits, rng: np.random.Generator
) -> Integers:
    """The order of a member of an ensemble, a permutation (D,).

    Arguments:
        given: The first member's order, or ``None``.
        ordering: ``tree``, ``random``, or for the first member ``natural``.
        member: Number of the member, from 0.
        bits: Codes (N, D) whose Chow–Liu tree a ``tree`` order walks down.
        rng: Chooses roots and branches.
    """
    dim = bits.shape[1]
    if given is not None and member == 0:
        return np.array(given, np.int64)
    if ordering == "natural" and member == 0:
        return np.arange(dim)
    return tree_order(bits, rng) if ordering == "tree" else rng.permutation(dim)


def tree_order(bits: Bits, rng: np.random.Generator) -> Integers:
    """Bits in the order of a walk down the Chow–Liu tree from a random root, branches in random order."""
    dim = bits.shape[1]
    parent, _ = trees.spanning_tree(trees.information(bits), 0)
    near: list[list[int]] = [[] for _ in range(dim)]
    for child, above in enumerate(parent):
        if above >= 0:
            near[child].append(int(above))
            near[int(above)].append(child)
    order: list[int] = []
    seen, open_ = np.zeros(dim, bool), [int(rng.integers(dim))]
    while open_:
        bit = open_.pop()
        order.append(bit)
        seen[bit] = True
        following = [other for other in near[bit] if not seen[other]]
        open_ += [following[i] for i in rng.permutation(len(following))]
    return np.array(order, np.int64)
