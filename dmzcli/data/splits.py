"""Fixed stratified hold-outs.

Item i of a source has a key kᵢ (its position, or its path).  The items of one class are ranked by
SHA-256(kᵢ), and the first n_c of them are held out, where the n_c are proportional to the class sizes
and sum to n.  The choice depends on the keys and labels alone: on no library's generator, and on no
order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

TRAIN, VALID, TEST = range(3)
AT_MOST = {VALID: 5_000, TEST: 10_000}
"""How many images of train are held out at most."""


def shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Splits ``count`` over classes in proportion to ``sizes`` by the largest remainder.

    Arguments:
        sizes: int, shape (K,), items per class.
        count: Items to take in all, at most ``sizes.sum()``.

    Returns:
        int64, shape (K,): no more than ``sizes``, summing to ``count``; ties go to the first class.

    Example:
        >>> shares(np.array([50, 30, 20]), 9)
        array([4, 3, 2])
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    total = int(sizes.sum())
    if not 0 <= count <= total:
        raise ValueError(f"cannot take {count} of {total} items")
    whole, rest = np.divmod(sizes * count, max(total, 1))
    order = np.argsort(-rest, kind="stable")
    whole[order[: count - int(whole.sum())]] += 1
    return whole


def hold_out(keys: Sequence[str], labels: np.ndarray | None, count: int) -> np.ndarray:
    """The positions of ``count`` held-out items.

    Arguments:
        keys: N distinct strings.
        labels: int, shape (N,); None ranks all items as one class.
        count: Number of items to hold out, at most N.

    Returns:
        int64, shape (count,), ascending.
    """
    labels = np.zeros(len(keys), np.int64) if labels is None else np.asarray(labels)
    ranks = np.array([_rank(key) for key in keys], dtype="S32")
    classes, sizes = np.unique(labels, return_counts=True)
    chosen = [np.zeros(0, np.int64)]
    for label, share in zip(classes, shares(sizes, count), strict=True):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(ranks[members], kind="stable")[:share]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def hold_out_missing(split: np.ndarray, keys: Sequence[str], labels: np.ndarray | None) -> None:
    """Holds a missing valid or test split out of train: a tenth of it, rounded up, at most :data:`AT_MOST`.

    Arguments:
        split: uint8, shape (N,), changed in place; fewer than three training images stay as they are.
        keys: N distinct strings.
        labels: int, shape (N,), or None.
    """
    if (split == TRAIN).sum() < 3:
        return
    size = -(-int((split == TRAIN).sum()) // 10)
    for code, most in AT_MOST.items():
        if not (split == code).any():
            rows = np.flatnonzero(split == TRAIN)
            subset = None if labels is None else labels[rows]
            split[rows[hold_out([keys[int(i)] for i in rows], subset, min(size, most))]] = code


def _rank(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def numbered(name: str, count: int) -> list[str]:
    """The keys of a source whose items have no names: ``name/0``, ``name/1``, …"""
    return [f"{name}/{i}" for i in range(count)]
