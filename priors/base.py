"""A prior p(b), or p(b | g), over binary codes b ∈ {0, 1}^D with optional given bits g ∈ {0, 1}^G.

The base class owns all checks, the held-out rows, the report, saving and the randomness of rows. A kind
supplies four things: it fits, it gives log p(b | g), it maps uniform numbers to codes, and it names its
arrays.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from priors import options as opts
from priors import storage
from priors.arrays import Bits, Float32, Float64
from priors.checks import MOST_CODES, check_bits, check_integer, check_seed, check_temperature
from priors.errors import PriorError
from priors.fit import Fit, Progress, Report, Rows, fingerprint, independent_nats, plain
from priors.randomness import block_uniforms, generator

HELD_OUT = 0.1  # share of the rows that chooses where the caller gives no valid rows
TRAIN_ROWS = 4096  # rows of the train figure in a report


class Prior(ABC):
    """A distribution over codes of ``dim`` bits.

    Arguments:
        dim: Number of bits of a code, D.
        seed: Seed of the fit's randomness, from 0 to 2⁶⁴ − 1: the rows held out where no ``valid`` is passed, and
            whatever else a kind draws, such as starts, orders of the bits, weights and masks.
        options: Fields of the kind's ``Options``.

    Raises:
        PriorError: ``dim`` or ``seed`` is no such integer, or an option is unknown or out of range.

    Class attributes:
        kind: Name in the registry.
        summary: One line on the distribution.
        exact: Whether ``log_prob`` is, code by code, the logarithm of the probability that ``sample`` draws it; all
            kinds here are exact. Else it is a lower bound of it, code by code.
        automatic: Whether ``auto`` may choose the kind: it has no network and does not memorize.
        memorises: Whether samples are near copies of fitted codes.
        law: Raised when the same arrays say or draw something else than they did. A saved prior has that of its time.
        Options: Frozen dataclass of options.
        sample_rows, log_prob_rows: Rows that ``_sample`` and ``_log_prob`` see at once.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]
    exact: ClassVar[bool] = True
    automatic: ClassVar[bool] = False
    memorises: ClassVar[bool] = False
    law: ClassVar[int] = 1
    Options: ClassVar[type] = opts.NoOptions
    sample_rows: int = 4096
    log_prob_rows: ClassVar[int] = 8192

    def __init__(self, dim: int, seed: int = 0, **options: Any) -> None:
        self.dim = check_integer("dim", dim, low=1)
        self.seed = check_seed(seed)
        self.options: Any = opts.build(self.Options, self.kind, options)
        self.given_dim = 0
        self.report: Report | None = None
        self.metadata: dict[str, Any] = {}
        self.sha256: str | None = None
        self.saved_law = self.law
        self._fitted = False

    def __repr__(self) -> str:
        given = f" given {self.given_dim} bits" if self.given_dim else ""
        state = "fitted" if self._fitted else "not fitted"
        return f"{type(self).__name__} prior of {self.dim} bits{given}, {state}"

    # What a kind supplies.

    @abstractmethod
    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        """Fits to ``train``, chooses on ``valid``, returns what it chose; ``self.given_dim`` is set."""

    @abstractmethod
    def _log_prob(self, rows: Rows) -> Float64:
        """log p(b | g) of at most ``log_prob_rows`` rows, in nats."""

    @abstractmethod
    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        """Codes (R, D) from uniform numbers (R, W): row i from row i of ``u`` and of ``given`` alone."""

    @abstractmethod
    def _state(self) -> storage.State:
        """The fitted arrays by name."""

    @abstractmethod
    def _load_state(self, state: storage.State) -> None:
        """Takes the arrays that ``_state`` gave; ``self.given_dim`` is set."""

    def _width(self) -> int:
        """W, the uniform numbers that a row needs."""
        return self.dim

    def _parameters(self) -> int:
        """Fitted numbers; all of the state unless a kind knows better."""
        return sum(array.size for array in self._state().values())

    # The contract.

    def fit(
        self,
        bits: Bits,
        valid: Bits | None = None,
        given: Bits | None = None,
        given_valid: Bits | None = None,
        progress: Progress | None = None,
        checkpoint: str | Path | None = None,
    ) -> Report:
        """Fits the prior to codes; everything left open is chosen on held-out codes.

        Arguments:
            bits: uint8 (N, D), N ≥ 2.
            valid: uint8 (M, D) held-out codes; without them a tenth of ``bits`` is held out by the seed.
            given: uint8 (N, G) to condition on: other bits, or one-hot labels.
            given_valid: uint8 (M, G), needed where both ``valid`` and ``given`` are passed.
            progress: Called with the fraction done and a short message.
            checkpoint: Folder for kinds that fit for long: the same call continues there after a kill and
                ends with the same result. It may be deleted when the prior is saved.

        Returns:
            The report, also kept as ``self.report``.

        Raises:
            PriorError: An array has another type, shape or value than this.
        """
        bits = check_bits("bits", bits, self.dim, least=2)
        if given is not None:
            given = check_bits("given", given, None, rows=len(bits))
        if valid is None:
            if given_valid is not None:
                raise PriorError("given_valid was passed without valid", "pass valid, or leave both out")
            train, held = self._hold_out(Rows(bits, given))
        else:
            valid = check_bits("valid", valid, self.dim)
            if (given is None) != (given_valid is None):
                missing = "given" if given is None else "given_valid"
                raise PriorError(f"{missing} is missing", "pass given and given_valid together, or neither")
            if given is not None:
                given_valid = check_bits("given_valid", given_valid, given.shape[1], rows=len(valid))
            train, held = Rows(bits, given), Rows(valid, given_valid)
        self.given_dim = 0 if given is None else given.shape[1]
        self.report, self._fitted = None, False
        identity = ""
        if checkpoint is not None:
            parts = (self.kind, self.seed, self.options, train.bits, train.given, held.bits, held.given)
            identity = fingerprint(*parts)
        fit = Fit(progress, None if checkpoint is None else Path(checkpoint), identity)
        start = time.perf_counter()
        fit.progress(0.0, "fitting")
        chosen = self._fit(train, held, fit)
        self._fitted = True
        seconds = time.perf_counter() - start
        self.report = self._measure(train, held, "held out" if valid is None else "given", seconds, chosen)
        fit.progress(1.0, "fitted")
        return self.report

    def log_prob(self, bits: Bits, given: Bits | None = None) -> Float64:
        """log p(b), or log p(b | g), of each code.

        Arguments:
            bits: uint8 (N, D).
            given: uint8 (N, G) where the prior was fitted with one.

        Returns:
            float64 (N,) in nats: exact where ``exact`` is true, else a lower bound.

        Raises:
            PriorError: The prior is not fitted, or an array has another type, shape or value than this.
        """
        self._check_fitted()
        bits = check_bits("bits", bits, self.dim)
        return self._log_probs(Rows(bits, self._check_given(given, len(bits))))

    def sample(self, n: int, seed: int = 0, given: Bits | None = None, temperature: float = 1.0) -> Bits:
        """Draws codes; row i depends on (seed, i, given_i) alone, so fewer rows are a prefix of more.

        Arguments:
            n: Number of codes, from 1 to 10⁹.
            seed: From 0 to 2⁶⁴ − 1.
            given: uint8 (n, G) where the prior was fitted with one.
            temperature: T ≥ 10⁻⁶, finite. Every draw of bits, be it a bit given those before or a block's value,
                has its log-odds divided by T: below 1 sharpens, above 1 flattens, 1 is as fitted. What is drawn to
                choose among ways of drawing bits (a mixture's component, a network and its order, a fitted code) is
                drawn as fitted: how a distribution is cut into components says nothing of codes, and a component
                that is written twice, each with half the weight, must change no sample's law. Toward T = 0 each way
                gives its one greedy code, and ways keep their shares; toward infinity all bits are fair coins.

        Returns:
            uint8 (n, D).

        Raises:
            PriorError: The prior is not fitted, or an argument is not as above.
        """
        n = check_integer("n", n, low=1, high=MOST_CODES)
        seed = check_seed(seed)
        temperature = check_temperature(temperature)
        self._check_fitted()
        given = self._check_given(given, n)
        out = np.empty((n, self.dim), np.uint8)
        size = self.sample_rows
        for block, start in enumerate(range(0, n, size)):
            u = block_uniforms(seed, block, size, self._width())
            block_given = None
            if given is not None:
                block_given = np.zeros((size, self.given_dim), np.uint8)
                block_given[: min(size, n - start)] = given[start : start + size]
            out[start : start + size] = self._sample(u, block_given, temperature)[: n - start]
        return out

    def save(self, folder: str | Path, metadata: dict[str, Any] | None = None) -> None:
        """Writes ``prior.json`` and its tensors into ``folder``, whole or not at all.

        Arguments:
            folder: Created where it is missing; a prior that is there is replaced at one moment.
            metadata: JSON-able facts that :func:`priors.load` gives back; ``self.metadata`` by default.

        Raises:
            PriorError: The prior is not fitted, the metadata is not JSON-able, or the folder refuses.
        """
        self._check_fitted()
        metadata = self.metadata if metadata is None else metadata
        try:
            json.dumps(metadata, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PriorError(
                f"metadata cannot be written as JSON: {error}", "keep to plain values"
            ) from error
        header = {
            "kind": self.kind,
            "dim": self.dim,
            "given_dim": self.given_dim,
            "seed": self.seed,
            "options": plain(dataclasses.asdict(self.options)),
            "report": None if self.report is None else self.report.as_dict(),
            "metadata": metadata,
        }
        if self.law > 1:
            header["law"] = self.law
        self.sha256 = storage.write(Path(folder), header, self._state())
        self.metadata = dict(metadata)

    # How the contract is kept.

    def _log_probs(self, rows: Rows) -> Float64:
        """log p(b | g) of any number of rows, in blocks."""
        size = self.log_prob_rows
        parts = [self._log_prob(rows.take(slice(at, at + size))) for at in range(0, len(rows), size)]
        return np.concatenate(parts).astype(np.float64, copy=False)

    def _score(self, rows: Rows) -> float:
        """Mean log p(b | g) of rows, for choices on held-out ones."""
        return float(self._log_probs(rows).mean())

    def _hold_out(self, rows: Rows) -> tuple[Rows, Rows]:
        """Splits rows by the seed into those fitted and those that choose, each in its first order."""
        order = generator(self.seed, 0).permutation(len(rows))
        held = max(1, round(HELD_OUT * len(rows)))
        return rows.take(np.sort(order[held:])), rows.take(np.sort(order[:held]))

    def _measure(
        self, train: Rows, valid: Rows, source: str, seconds: float, chosen: dict[str, Any]
    ) -> Report:
        pick = np.sort(generator(self.seed, 1).permutation(len(train))[:TRAIN_ROWS])
        some = train.take(pick)
        valid_nats = self._score(valid)
        independent = -independent_nats(train.bits, valid.bits) / math.log(2)
        code = -valid_nats / math.log(2)
        return Report(
            kind=self.kind,
            dim=self.dim,
            given_dim=self.given_dim,
            seed=self.seed,
            exact=self.exact,
            n_train=len(train),
            n_valid=len(valid),
            valid_from=source,
            train_nats=self._score(some),
            valid_nats=valid_nats,
            valid_bits_per_code=code,
            valid_bits_per_bit=code / self.dim,
            independent_bits_per_code=independent,
            gain_bits_per_code=independent - code,
            parameters=int(self._parameters()),
            seconds=seconds,
            options=plain(dataclasses.asdict(self.options)),
            chosen=plain(chosen),
        )

    def _check_fitted(self) -> None:
        if not self._fitted:
            raise PriorError(f"the prior '{self.kind}' is not fitted", "call fit, or load one that was")

    def _check_given(self, given: Bits | None, rows: int) -> Bits | None:
        if given is None and self.given_dim:
            raise PriorError(
                f"given is missing; the prior was fitted with {self.given_dim} given bits", "pass given"
            )
        if given is None:
            return None
        if not self.given_dim:
            raise PriorError("given was passed; the prior was fitted without", "leave given out")
        return check_bits("given", given, self.given_dim, rows=rows)
