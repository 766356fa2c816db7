"""Codes that go on from a few bits: p(z_free | z_locked) of any prior, the likelier codes nearby, and ways between two.

All of it asks a prior for log p(z) and for samples, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import priors
from dmzcli.system.randomness import stream

Array = np.ndarray
DRAWS = 1024
"""Samples among which an agreeing one is looked for."""
TIME = 5.0
"""How often a free bit is drawn anew, on average, where none agrees."""
Go = Callable[[], None]
"""Called between evaluations; what it raises ends the work."""


@dataclass(frozen=True, eq=False)
class Completed:
    """A code, and how it was found in one word: ``exact`` or ``Gibbs``."""

    bits: Array
    how: str


def complete(
    prior: priors.Prior, bits: Array, locked: Array, seed: int, go: Go = lambda: None, draws: int = DRAWS
) -> Completed:
    """A draw of the free bits given the locked ones.

    By rejection: the first sample that agrees in the locked bits is an exact draw. Where none does, the nearest takes
    the locked bits, and Glauber dynamics (R. Glauber 1963) start there: every free bit is drawn anew given all others
    at the times of a Poisson process of rate 1. A bit that stays as it was costs nothing, since the next flip is
    drawn at once: bit i flips at the rate p(flipped) / (p + p(flipped)) (D. Gillespie 1977).

    Arguments:
        prior: Fitted, given nothing.
        bits: uint8 (D,); the free ones do not matter.
        locked: bool (D,).
        seed: Of the draw.
        go: Called between evaluations.
        draws: Samples to look among, at most.
    """
    go()
    samples = prior.sample(draws if locked.any() else 1, seed=seed)
    misses = (samples != bits)[:, locked].sum(1)
    nearest = int(misses.argmin())
    code = samples[nearest].copy()
    if not misses[nearest]:
        return Completed(code, "exact")
    code[locked] = bits[locked]
    random = stream("complete", seed)
    free = np.flatnonzero(~locked)
    now, time = float(prior.log_prob(code[None])[0]), 0.0
    while len(free):
        go()
        tried = _flips(code, free)
        logs = prior.log_prob(tried)
        # From one impossible code to another no rate is defined; a coin's serves to leave them.
        possible = np.isfinite(now) | np.isfinite(logs)
        rates = np.full(len(free), 0.5)
        rates[possible] = np.exp(-np.logaddexp(0, now - logs[possible]))
        time += random.exponential() / rates.sum()
        if time >= TIME:
            break
        i = int(random.choice(len(free), p=rates / rates.sum()))
        code, now = tried[i], float(logs[i])
    return Completed(code, "Gibbs")


def climb(prior: priors.Prior, bits: Array, locked: Array, go: Go = lambda: None) -> Array:
    """The likelier code nearby: the free bit that gains the most is flipped, until none gains.

    A local maximum of log p; no single flip of a free bit betters it.
    """
    free = np.flatnonzero(~locked)
    code = bits.copy()
    best = float(prior.log_prob(code[None])[0])
    while len(free):
        go()
        tried = _flips(code, free)
        logs = prior.log_prob(tried)
        if logs.max() <= best + 1e-9:
            break
        best, code = float(logs.max()), tried[int(logs.argmax())]
    return code


def path(start: Array, end: Array, prior: priors.Prior | None = None, go: Go = lambda: None) -> Array:
    """Codes from one to another, a flip at a time.

    Each flip is, of those that are left, the one to the likeliest code; without a prior, the next in order.

    Returns:
        uint8 (h + 1, D), with h the Hamming distance.
    """
    codes = [start.copy()]
    left = np.flatnonzero(start != end)
    while len(left):
        go()
        chosen = 0
        if prior is not None:
            chosen = int(prior.log_prob(_flips(codes[-1], left)).argmax())
        code = codes[-1].copy()
        code[left[chosen]] ^= 1
        codes.append(code)
        left = np.delete(left, chosen)
    return np.stack(codes)


def _flips(code: Array, places: Array) -> Array:
    """The codes with one of some bits flipped, uint8 (len(places), D)."""
    tried = np.repeat(code[None], len(places), 0)
    tried[np.arange(len(places)), places] ^= 1
    return tried
