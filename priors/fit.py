"""What a fit is given and what it gives back: rows, progress, checkpoints, the report."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors import storage
from priors.arrays import Bits, Float64
from priors.errors import PriorError

Progress = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Codes, and what they are conditioned on.

    Attributes:
        bits: uint8 (N, D) of 0 and 1.
        given: uint8 (N, G) of 0 and 1, or ``None``.
    """

    bits: Bits
    given: Bits | None = None

    def __len__(self) -> int:
        return len(self.bits)

    def take(self, index: Any) -> Rows:
        """The rows that a numpy index selects."""
        return Rows(self.bits[index], None if self.given is None else self.given[index])


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """What a fit measured; every number names its rows.

    Attributes:
        kind, dim, given_dim, seed, exact: Facts of the prior; where ``exact`` is false, likelihoods are lower bounds.
        n_train, n_valid: Numbers of rows fitted and of rows held out.
        valid_from: ``given``: the caller passed the held-out rows; ``held out``: the seed chose them.
        train_nats: Mean log-likelihood of at most 4,096 of the fitted rows.
        valid_nats: Mean log-likelihood of the held-out rows.
        valid_bits_per_code, valid_bits_per_bit: The same as a code length, per code and per bit of it.
        independent_bits_per_code: The same for independent bits with the smoothed marginals of the fitted rows.
        gain_bits_per_code: What the prior saves over independent bits.
        parameters: Count of fitted numbers.
        seconds: Time that the fit took by the clock.
        options, chosen: The options as asked for, and what the fit chose for those left open.
    """

    kind: str
    dim: int
    given_dim: int
    seed: int
    exact: bool
    n_train: int
    n_valid: int
    valid_from: str
    train_nats: float
    valid_nats: float
    valid_bits_per_code: float
    valid_bits_per_bit: float
    independent_bits_per_code: float
    gain_bits_per_code: float
    parameters: int
    seconds: float
    options: dict[str, Any]
    chosen: dict[str, Any]

    def __repr__(self) -> str:
        bound = "" if self.exact else "at most "
        gain = abs(self.gain_bits_per_code)
        return (
            f"report of {self.kind}: {bound}{self.valid_bits_per_code:.2f} bits per code on {self.n_valid:,} held-out "
            f"codes, {gain:.2f} {'fewer' if self.gain_bits_per_code >= 0 else 'more'} than independent bits"
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return plain(dataclasses.asdict(self))


def plain(value: Any) -> Any:
    """Numpy scalars and arrays, tuples and non-finite numbers as JSON knows them."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def marginals(bits: NDArray[Any]) -> Float64:
    """How often each bit is set (D,), smoothed by half a row each way."""
    return (bits.sum(0, dtype=np.float64) + 0.5) / (len(bits) + 1)


def independent_nats(train: Bits, valid: Bits) -> float:
    """Mean log-likelihood of ``valid`` under the smoothed marginals of ``train``."""
    p = marginals(train)
    q = valid.mean(0, dtype=np.float64)
    return float(np.sum(q * np.log(p) + (1 - q) * np.log1p(-p)))


class Fit:
    """A fit under way: reports progress and keeps its checkpoint.

    Arguments:
        progress: Called with the fraction done in [0, 1] and a short message, or ``None``.
        checkpoint: A folder to continue from and to save to, or ``None``.
        identity: Digest of all that the fit depends on; a checkpoint of another fit is ignored and replaced.
    """

    def __init__(self, progress: Progress | None, checkpoint: Path | None, identity: str) -> None:
        self._progress = progress
        self.checkpoint = checkpoint
        self._identity = identity
        self._low, self._high = 0.0, 1.0

    def progress(self, fraction: float, message: str) -> None:
        """Reports the fraction done of this fit, or of the part of one that :meth:`part` gave."""
        if self._progress is not None:
            fraction = min(max(fraction, 0.0), 1.0)
            self._progress(self._low + (self._high - self._low) * fraction, message)

    def part(self, low: float, high: float, name: str | None = None) -> Fit:
        """A stretch of this fit; with a name it keeps a checkpoint of its own, else none."""
        folder = self.checkpoint / name if self.checkpoint is not None and name is not None else None
        part = Fit(self._progress, folder, self._identity)
        span = self._high - self._low
        part._low, part._high = self._low + span * low, self._low + span * high
        return part

    def save(self, state: storage.State, facts: Mapping[str, Any]) -> None:
        """Saves a checkpoint, whole or not at all; nothing where no folder was asked for."""
        if self.checkpoint is not None:
            header = {"identity": self._identity, "facts": plain(facts)}
            storage.write(self.checkpoint, header, state, name="checkpoint")

    def load(self) -> tuple[storage.State, dict[str, Any]] | None:
        """The checkpoint of this very fit, or ``None`` where there is none that can be continued."""
        if self.checkpoint is None or not (self.checkpoint / "checkpoint.json").exists():
            return None
        try:
            header, state = storage.read(self.checkpoint, name="checkpoint")
        except PriorError:
            return None
        facts = header.get("facts")
        if header.get("identity") != self._identity or not isinstance(facts, dict):
            return None
        return state, facts


Run = Fit  # the name that earlier kinds of other packages import


def fingerprint(*parts: Any) -> str:
    """SHA-256 over arrays and the text of everything else."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()
