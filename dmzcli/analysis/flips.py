r"""Which bits to flip: the fewest that move a linear probe past a threshold.

A probe of a target (a class against all others, or an attribute) says p(y = 1 | z) = σ(w · z + b). Flipping bit i adds
g_i = w_i (1 − 2 z_i) to the log-odds, whatever the other bits are, so that the gains of a set of flips add up. To pass
a threshold with the fewest flips, take the largest gains until it is passed: no set of k flips gains more than the k
largest, so where these fall short, every k do. That is exact, with bits that may not be flipped, too.

Two things make it greedy, re-evaluated after each flip, with no claim to the fewest:

- a brake: a flip is worth g_i − λ (log p(z) − log p(z ⊕ i)), in nats, under a prior whose bits depend on each other;
- locked targets, whose own probes must decide as before: a flip that would turn one waits until it no longer does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dmzcli.analysis.probes.heads.base import choose
from dmzcli.analysis.probes.heads.logistic import Logistic
from dmzcli.analysis.probes.targets import Target
from dmzcli.errors import UserError, did_you_mean
from dmzcli.system.randomness import stream
from priors import Prior

Array = np.ndarray
_CODES = 1 << 16
"""Codes that a prior is asked for at a time."""
PREFIXES = {"labels": "class:", "attributes": "attribute:"}


@dataclass(frozen=True, eq=False)
class Probes:
    """A logistic probe for each of K targets.

    Attributes:
        kind: ``labels`` or ``attributes``.
        names: The K names.
        weights, intercepts: float64 (D, K) and (K,).
        inverse_strength: C of the L2 penalty, the best on valid.
        auroc: Mean AUROC on valid.
    """

    kind: str
    names: tuple[str, ...]
    weights: Array
    intercepts: Array
    inverse_strength: float
    auroc: float

    def log_odds(self, bits: Array) -> Array:
        """w · z + b of codes uint8 (N, D), float64 (N, K)."""
        return bits @ self.weights + self.intercepts


def fit_probes(bits: Array, target: Target, rows: dict[str, Array]) -> Probes:
    """Probes of a target's columns, each by itself: fitted on train, their penalty chosen on valid.

    Arguments:
        bits: uint8 (N, D).
        target: Its columns are the targets.
        rows: Positions of ``train`` and ``valid``.
    """
    train, valid = (
        (bits[rows[split]].astype(np.float32), target.values[rows[split]]) for split in ("train", "valid")
    )
    # What a linear head says of the code of zeros and of the D unit codes is its intercept and its weights.
    asked = np.eye(bits.shape[1] + 1, bits.shape[1], -1, dtype=np.float32)
    chosen = choose(Logistic(), train, valid, asked, exclusive=False)
    scores = chosen.scores.astype(np.float64)
    return Probes(
        target.name, target.names, scores[1:] - scores[0], scores[0], chosen.settings["C"], chosen.valid
    )


def find_target(name: str, targets: Sequence[Target]) -> tuple[int, int]:
    """Which target, and which column of it, a name means: ``Bag``, ``class:Bag``, ``attribute:Smiling``.

    Raises:
        UserError: There is none of this name, several, or it is constant in a split.
    """
    found = [
        (t, target.names.index(bare))
        for t, target in enumerate(targets)
        for bare in {name, name.removeprefix(PREFIXES[target.name])}
        if bare in target.names
    ]
    if len(found) > 1:
        raise UserError(
            f"'{name}' is a class and an attribute", f"write 'class:{name}' or 'attribute:{name}'"
        )
    if not found:
        if any(name in target.left_out for target in targets):
            raise UserError(
                f"the attribute '{name}' is constant in a split, and no probe learns it", "name another one"
            )
        known = [one for target in targets for one in target.names]
        raise UserError(
            f"there is no class or attribute '{name}'", did_you_mean(name, known, "classes and attributes")
        )
    return found[0]


@dataclass(frozen=True, eq=False)
class Locks:
    """What an edit must keep.

    Attributes:
        bits: bool (D,), those that are not flipped.
        weights, intercepts: float64 (D, L) and (L,), the probes whose decisions stay.
        names: The L names.
    """

    bits: Array
    weights: Array
    intercepts: Array
    names: tuple[str, ...] = ()

    @classmethod
    def none(cls, dim: int) -> Locks:
        """Nothing is locked."""
        return cls(np.zeros(dim, bool), np.empty((dim, 0)), np.empty(0))

    @classmethod
    def parse(
        cls, entries: Sequence[str], dim: int, targets: Sequence[Target], probes: Sequence[Probes]
    ) -> Locks:
        """Locks by what a person writes: ``5``, ``8-15`` (both ends included), or the name of a class or an attribute.

        Raises:
            UserError: A bit lies outside of the code, or a name is unknown.
        """
        bits, columns = np.zeros(dim, bool), []
        for entry in entries:
            first, dash, last = entry.partition("-")
            if first.isdecimal() and (last.isdecimal() if dash else not last):
                low, high = int(first), int(last or first)
                if not low <= high < dim:
                    raise UserError(
                        f"--lock {entry} is no bit of a code of {dim}",
                        f"bits count from 0 to {dim - 1}; a class whose name is a number is class:{first}",
                    )
                bits[low : high + 1] = True
            else:
                columns.append(find_target(entry, targets))
        if bits.all():
            raise UserError("--lock locks every bit", "leave some that may be flipped")
        return cls(
            bits,
            np.stack([probes[t].weights[:, k] for t, k in columns], 1) if columns else np.empty((dim, 0)),
            np.array([probes[t].intercepts[k] for t, k in columns]),
            tuple(probes[t].names[k] for t, k in columns),
        )


@dataclass(frozen=True, eq=False)
class Rule:
    """How far an edit goes.

    Attributes:
        sign: 1 raises the target, −1 lowers it.
        threshold: p(target | z) that is passed: at least this where it is raised, at most 1 minus this where lowered.
        most: Flips of an image at most.
        prior: Brakes, if there is one.
        brake: λ, units of log-odds that a nat of log p(z) is worth.
    """

    sign: int = 1
    threshold: float = 0.9
    most: int = 16
    prior: Prior | None = None
    brake: float = 0.0

    @property
    def log_odds(self) -> float:
        """The threshold as log-odds, of a target that is raised or of one's absence that is."""
        return float(np.log(self.threshold / (1 - self.threshold)))


def edit_bits(bits: Array, weights: Array, intercepts: Array, locks: Locks, rule: Rule) -> Array:
    """Codes with the fewest flips that bring a probe past the threshold, or as near as the budget takes them.

    A code that is past it already stays. See the head of this module for when the flips are the fewest.

    Arguments:
        bits: uint8 (N, D).
        weights, intercepts: Each code's own probe, float64 (N, D) and (N,).
        locks: What stays.
        rule: How far to go.

    Returns:
        uint8 (N, D).
    """
    edited, touched = bits.copy(), np.zeros(bits.shape, bool)
    odds = rule.sign * ((bits * weights).sum(1) + intercepts)
    gains = rule.sign * weights * (1.0 - 2.0 * bits)  # of bits that are not flipped yet
    kept = bits @ locks.weights + locks.intercepts > 0
    going = np.flatnonzero(odds < rule.log_odds)
    for _ in range(rule.most):
        if not len(going):
            break
        worth = gains[going] - _braked(edited[going], rule)
        barred = (
            touched[going] | locks.bits | (gains[going] <= 0) | _turning(edited[going], kept[going], locks)
        )
        worth[barred | ~np.isfinite(worth)] = -np.inf
        best = worth.argmax(1)
        moves = worth[np.arange(len(going)), best] > 0
        going, best = going[moves], best[moves]
        edited[going, best] ^= 1
        touched[going, best] = True
        odds[going] += gains[going, best]
        going = going[odds[going] < rule.log_odds]
    return edited


def _braked(bits: Array, rule: Rule) -> Array:
    """λ (log p(z) − log p(z ⊕ i)) of every flip, (N, D)."""
    if rule.prior is None or not rule.brake:
        return np.zeros(bits.shape)
    dim = bits.shape[1]
    unit, part = np.eye(dim, dtype=np.uint8), max(1, _CODES // dim)
    after = np.concatenate(
        [
            rule.prior.log_prob((bits[i : i + part, None] ^ unit).reshape(-1, dim)).reshape(-1, dim)
            for i in range(0, len(bits), part)
        ]
    )
    with np.errstate(invalid="ignore"):  # a prior may hold a code and all its neighbors for impossible
        return rule.brake * (rule.prior.log_prob(bits)[:, None] - after)


def _turning(bits: Array, kept: Array, locks: Locks) -> Array:
    """Whether a flip would turn a locked probe's decision, bool (N, D)."""
    turning = np.zeros(bits.shape, bool)
    odds = bits @ locks.weights + locks.intercepts
    for k in range(len(locks.names)):
        after = odds[:, k, None] + locks.weights[:, k] * (1.0 - 2.0 * bits)
        turning |= (after > 0) != kept[:, k, None]
    return turning


def random_flips(bits: Array, counts: Array, locked: Array, seed: int) -> Array:
    """Codes with as many flips at random, of bits that are not locked; row i's depend on (seed, i) alone.

    Arguments:
        bits: uint8 (N, D).
        counts: Flips of each code, (N,).
        locked: bool (D,).
        seed: Seed of the choice.
    """
    free, edited = np.flatnonzero(~locked), bits.copy()
    for i, count in enumerate(counts):
        edited[i, stream("random flips", seed, i).permutation(free)[:count]] ^= 1
    return edited
