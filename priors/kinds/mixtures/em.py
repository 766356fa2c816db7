r"""Mixtures p(b | g) = Σ_k w_k(g) p_k(b | g), fitted by expectation maximization from several starts.

The weights are w(g) = softmax(Wᵀ(1, g)), a constant where nothing is given: with given bits this is the
mixture of experts of Jordan and Jacobs ("Hierarchical mixtures of experts and the EM algorithm", Neural
Computation 6, 1994, doi:10.1162/neco.1994.6.2.181), whose sum is the exact conditional.

Runs from different starts end in different mixtures. Their average is a mixture again, of all their
components, and by Jensen's inequality at least as likely as they are on average; on held-out codes it is
usually better than the best of them. So restarts are averaged unless told otherwise.
"""

from __future__ import annotations

import functools
import time
from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from priors.arrays import Bits, Float32, Float64, Floats
from priors.base import Prior
from priors.fit import Fit, Rows
from priors.kinds.mixtures.search import Candidate, MixtureOptions, Search
from priors.parts import regression
from priors.parts.numerics import draw_index, log_softmax, log_sum_exp, softmax
from priors.randomness import generator
from priors.storage import State

PATIENCE = 3  # steps without a gain on held-out codes before a run ends
LEAST_GAIN = 1e-4  # nats
LLOYD_STEPS = 8
GATE_PENALTY = 10.0  # during a run; chosen on valid at its end
ROWS_PER_COMPONENT = 4

SAVE_SECONDS = 20.0
MULTIPLY, EXPONENTIAL = 3e-11, 3e-9  # seconds of a multiplication in a product, and of an exponential


class Data(NamedTuple):
    """What a start sees: variables and given bits of the rows fitted and of those held out."""

    train: Float32  # (N, V)
    given: Bits | None  # (N, G)
    valid: Float32  # (M, V)
    given_valid: Bits | None  # (M, G)
    common: Float64  # what components are shrunk toward


class MixturePrior(Prior):
    """The loop that mixtures share; a kind supplies its components."""

    Options = MixtureOptions
    grid: tuple[int, ...]
    smoothings: tuple[float, ...]

    _components: State
    _gate: Float64  # (G + 1, R K), runs side by side
    _runs: int

    # What a kind of mixture supplies.

    @abstractmethod
    def _variables(self, rows: Rows) -> Float32:
        """What the components see of rows, (N, V)."""

    @abstractmethod
    def _common(self, variables: Float32) -> Float64:
        """What components are shrunk toward: statistics of all rows."""

    @abstractmethod
    def _maximize(self, variables: Float32, shares: Float32, smoothing: float, common: Float64) -> State:
        """Components (arrays with K first) fitted to rows weighted by ``shares`` (K, N)."""

    @abstractmethod
    def _step_seconds(self, rows: int, size: int) -> float:
        """About how long a step takes on one core, for ``size`` components."""

    @abstractmethod
    def _evaluate(self, components: State, variables: NDArray[Any], dtype: Any) -> Floats:
        """log p_k(b | g), (K, N)."""

    @abstractmethod
    def _draw(self, which: NDArray[np.intp], u: Float32, given: Bits | None, temperature: float) -> Bits:
        """A code from component ``which`` (R,) of each row."""

    # Fitting.

    def _fit(self, train: Rows, valid: Rows, fit: Fit) -> dict[str, Any]:
        most = max(1, len(train) // ROWS_PER_COMPONENT)
        grid = [k for k in self.grid if k <= most] or [most]
        if self.options.components is not None:
            grid = [min(self.options.components, len(train))]  # as many as asked for, and no more than rows
        smoothings = self.smoothings if self.options.smoothing is None else (self.options.smoothing,)
        variables, held = self._variables(train), self._variables(valid)
        data = Data(variables, train.given, held, valid.given, self._common(variables))
        one_run = functools.partial(self._one_run, data)
        step_seconds = functools.partial(self._step_seconds, len(train) + len(valid))
        search = Search(one_run, step_seconds, self.options, fit)
        size, smoothing = search.climb(grid, smoothings)
        runs = search.candidates(size, smoothing)
        if not self.options.average:
            runs = [max(runs, key=lambda one: float(one.valid.mean()))]
        parts = [one.components for one in runs]
        self._components = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self._gate, self._runs = np.concatenate([one.gate for one in runs], axis=1), len(runs)
        return {"components": size, "smoothing": smoothing, "runs": len(runs), "stopped": search.stopped}

    def _one_run(
        self, data: Data, size: int, smoothing: float, start: int, steps: int, fit: Fit
    ) -> tuple[Candidate, int]:
        """Expectation maximization from one start, and its steps; ends when held-out codes gain no more.

        A run that was stopped continues from its checkpoint to the same end.
        """
        step, stale, best, now = 0, 0, None, None
        checkpoint = fit.load()
        if checkpoint is not None:
            state, facts = checkpoint
            best, step, stale = Candidate.from_state(state, "best."), int(facts["steps"]), int(facts["stale"])
            if facts["done"]:
                return best, step
            now = Candidate.from_state(state, "now.")

        def save(done: bool) -> None:
            if best is not None and now is not None:
                state = {**now.state("now."), **best.state("best.")}
                fit.save(state, {"steps": step, "stale": stale, "done": done})

        saved = time.monotonic()
        try:
            while step < steps and stale < PATIENCE and not (step and size == 1):
                now = self._step(now, data, size, smoothing, start)
                step += 1
                if best is None or now.valid.mean() > best.valid.mean() + LEAST_GAIN:
                    best, stale = now, 0
                else:
                    stale += 1
                if time.monotonic() - saved > SAVE_SECONDS:
                    save(False)
                    saved = time.monotonic()
                fit.progress(step / steps, f"{size} components, start {start + 1}, step {step}")
        except BaseException:
            save(False)
            raise
        assert best is not None
        best = best if data.given is None else self._choose_gate(best, data)
        save(True)
        return best, step

    def _step(self, now: Candidate | None, data: Data, size: int, smoothing: float, start: int) -> Candidate:
        """One expectation and maximization; the first expectation is a clustering of the rows."""
        if now is None:
            rng = generator(self.seed, 3, size, start)
            shares = _hard(cluster(data.train, size, rng), size)
        else:
            shares = self._expect(now.components, now.gate, data.train, data.given)
        components = self._maximize(data.train, shares, smoothing, data.common)
        gate = self._fit_gate(shares, data.given, None if now is None else now.gate, GATE_PENALTY, 10)
        inside = self._evaluate(components, data.valid, np.float32).astype(np.float64)
        return Candidate(components, gate, log_sum_exp(inside + log_gate(gate, data.given_valid).T, 0))

    def _expect(self, components: State, gate: Float64, variables: Float32, given: Bits | None) -> Float32:
        """Each component's share of each row, (K, N)."""
        shares = self._evaluate(components, variables, np.float32).astype(np.float32, copy=False)
        for at in range(0, len(variables), regression.CHUNK):
            rows = slice(at, at + regression.CHUNK)
            block = shares[:, rows]
            block += log_gate(gate, None if given is None else given[rows]).T.astype(np.float32)
            block -= block.max(0)
            np.exp(block, out=block)
            block /= block.sum(0)
        return shares

    def _fit_gate(
        self, shares: Float32, given: Bits | None, start: Float64 | None, penalty: float, steps: int
    ) -> Float64:
        """The gate W (G + 1, K) for the components' shares of the rows."""
        sums = shares.sum(1, dtype=np.float64) + 1.0
        offset = np.log(sums / sums.sum())
        if given is None:
            return offset[None]
        above = None if start is None else start - np.eye(len(start), 1) * offset
        weights = regression.fit(
            given, lambda rows: shares[:, rows].T, softmax, 0.5, offset, penalty, above, steps
        )
        return weights + np.eye(len(weights), 1) * offset

    def _choose_gate(self, best: Candidate, data: Data) -> Candidate:
        """The candidate with the gate's penalty chosen on held-out codes."""
        shares = self._expect(best.components, best.gate, data.train, data.given)
        inside = self._evaluate(best.components, data.valid, np.float64)
        gate = best.gate
        for penalty in regression.PENALTIES:
            gate = self._fit_gate(shares, data.given, gate, penalty, 60)
            score = log_sum_exp(inside + log_gate(gate, data.given_valid).T, 0)
            if score.mean() > best.valid.mean():
                best = Candidate(best.components, gate, score)
        return best

    # The mixture of all runs.

    def _log_weights(self, given: Bits | None) -> Float64:
        """log w_k(g) of all components of all runs, (N, R K), or (1, R K) where nothing is given."""
        size = self._gate.shape[1] // self._runs
        parts = [log_gate(self._gate[:, i * size : (i + 1) * size], given) for i in range(self._runs)]
        return np.concatenate(parts, axis=1) - np.log(self._runs)

    def _log_prob(self, rows: Rows) -> Float64:
        inside = self._evaluate(self._components, self._variables(rows), np.float64)
        return log_sum_exp(inside + self._log_weights(rows.given).T, 0)

    def _width(self) -> int:
        return self.dim + 1

    def _sample(self, u: Float32, given: Bits | None, temperature: float) -> Bits:
        weights = softmax(self._log_weights(given))  # which component is no draw of a bit: as fitted
        return self._draw(draw_index(weights, u[:, 0]), u[:, 1:], given, temperature)

    def _state(self) -> State:
        return {**self._components, "gate": self._gate, "runs": np.array([self._runs])}

    def _load_state(self, state: State) -> None:
        self._gate, self._runs = state["gate"], int(state["runs"][0])
        self._components = {name: array for name, array in state.items() if name not in ("gate", "runs")}
        if len(self._gate) != self.given_dim + 1 or self._gate.shape[1] % self._runs:
            raise ValueError(f"a gate of shape {self._gate.shape} for {self.given_dim} given bits")


def cluster(variables: Float32, size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """A cluster for each row by Lloyd's k-means from random rows; an empty cluster begins anew at a row."""
    centers = variables[rng.choice(len(variables), size, replace=False)]
    nearest = np.zeros(len(variables), np.intp)
    for _ in range(LLOYD_STEPS):
        half = 0.5 * (centers**2).sum(1)
        for at in range(0, len(variables), regression.CHUNK):
            block = variables[at : at + regression.CHUNK]
            nearest[at : at + regression.CHUNK] = (block @ centers.T - half).argmax(1)
        counts = np.bincount(nearest, minlength=size)
        sums = _hard(nearest, size) @ variables
        centers = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        empty = np.nonzero(counts == 0)[0]
        centers[empty] = variables[rng.choice(len(variables), len(empty))]
    return nearest


def _hard(index: NDArray[np.intp], size: int) -> Float32:
    shares = np.zeros((size, len(index)), np.float32)
    shares[index, np.arange(len(index))] = 1
    return shares


def log_gate(gate: Float64, given: Bits | None) -> Floats:
    """log softmax of the gate's logits: (N, K), or (1, K) where nothing is given."""
    logits = gate if given is None else regression.design(given).astype(np.float64) @ gate
    return log_softmax(logits)
