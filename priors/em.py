r"""Mixtures p(b | g) = Σ_k w_k(g) p_k(b | g), fitted by expectation maximisation from several starts.

The weights are w(g) = softmax(Wᵀ(1, g)), a constant where nothing is given: with given bits this is the
mixture of experts of Jordan and Jacobs ("Hierarchical mixtures of experts and the EM algorithm", Neural
Computation 6, 1994, doi:10.1162/neco.1994.6.2.181), whose sum is the exact conditional.

Runs from different starts end in different mixtures. Their average is a mixture again, of all their
components, and by Jensen's inequality at least as likely as they are on average; on held-out codes it is
usually better than the best of them. So restarts are averaged unless told otherwise.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priors import regression
from priors.base import Prior
from priors.fitting import Bits, Rows, Run
from priors.options import option
from priors.randomness import generator
from priors.storage import State

PATIENCE = 3  # steps without a gain on held-out codes before a run ends
LEAST_GAIN = 1e-4  # nats
LLOYD_STEPS = 8
GATE_PENALTY = 10.0  # during a run; chosen on valid at its end
ROWS_PER_COMPONENT = 4
SEARCH_STARTS = 2  # runs that a choice on held-out codes averages

Floats = NDArray[np.floating[Any]]


@dataclasses.dataclass(frozen=True)
class MixtureOptions:
    """Options of the mixtures."""

    components: int | None = option(None, "components of a run; auto chooses on valid", low=1)
    smoothing: float | None = option(
        None, "codes' worth of shrinkage of a component toward all codes; auto chooses on valid", low=1e-6
    )
    restarts: int = option(8, "runs of expectation maximisation from different starts", low=1)
    average: bool = option(True, "average the runs; else keep the one that is best on valid")
    steps: int = option(60, "at most so many steps of a run", low=1)


@dataclasses.dataclass(frozen=True)
class Found:
    """One finished run: its components' arrays, its gate (G + 1, K), and log p of the held-out rows."""

    components: State
    gate: NDArray[np.float64]
    valid: NDArray[np.float64]


class MixturePrior(Prior):
    """The loop that mixtures share; a kind supplies its components."""

    Options = MixtureOptions
    grid: tuple[int, ...]
    smoothings: tuple[float, ...]

    _components: State
    _gate: NDArray[np.float64]  # (G + 1, R K), runs side by side
    _runs: int

    # What a kind of mixture supplies.

    @abstractmethod
    def _variables(self, rows: Rows) -> NDArray[np.float32]:
        """What the components see of rows, (N, V)."""

    @abstractmethod
    def _maximise(
        self, variables: NDArray[np.float32], shares: NDArray[np.float32], smoothing: float
    ) -> State:
        """Components (arrays with K first) fitted to rows weighted by ``shares`` (K, N)."""

    @abstractmethod
    def _evaluate(self, components: State, variables: NDArray[Any], dtype: Any) -> Floats:
        """log p_k(b | g), (K, N)."""

    @abstractmethod
    def _draw(
        self, which: NDArray[np.intp], u: NDArray[np.float32], given: Bits | None, temperature: float
    ) -> Bits:
        """A code from component ``which`` (R,) of each row."""

    # Fitting.

    def _fit(self, train: Rows, valid: Rows, run: Run) -> dict[str, Any]:
        most = max(1, len(train) // ROWS_PER_COMPONENT)
        grid = [k for k in self.grid if k <= most] or [most]
        if self.options.components is not None:
            grid = [min(self.options.components, len(train))]  # as many as asked for, and no more than rows
        smoothings = list(self.smoothings)
        if self.options.smoothing is not None:
            smoothings = [self.options.smoothing]
        data = (self._variables(train), train.given, self._variables(valid), valid.given)
        search = _Search(self, data, run, (len(grid), len(smoothings)))
        size, smoothing = search.climb(grid, smoothings)
        runs = search.runs(size, smoothing, self.options.restarts)
        if not self.options.average:
            runs = [max(runs, key=lambda one: float(one.valid.mean()))]
        self._components = {
            name: np.concatenate([one.components[name] for one in runs]) for name in runs[0].components
        }
        self._gate, self._runs = np.concatenate([one.gate for one in runs], axis=1), len(runs)
        return {"components": size, "smoothing": smoothing, "runs": len(runs)}

    def _one_run(self, data: Data, size: int, smoothing: float, start: int, run: Run) -> Found:
        """Expectation maximisation from one start; ends when held-out codes gain no more."""
        variables, given, held, held_given = data
        rng = generator(self.seed, 3, size, start)
        shares = _hard(cluster(variables, size, rng), size)
        gate, best, stale = None, None, 0
        for step in range(self.options.steps):
            components = self._maximise(variables, shares, smoothing)
            gate = self._fit_gate(shares, given, gate, GATE_PENALTY, 10)
            joint = (
                self._evaluate(components, held, np.float32).astype(np.float64) + log_gate(gate, held_given).T
            )
            score = log_sum_exp(joint)
            if best is None or score.mean() > best.valid.mean() + LEAST_GAIN:
                best, stale = Found(components, gate, score), 0
            else:
                stale += 1
            run.progress(
                (step + 1) / self.options.steps, f"{size} components, start {start + 1}, step {step + 1}"
            )
            if stale == PATIENCE or size == 1:
                break
            shares = self._expect(components, gate, variables, given)
        assert best is not None
        return best if given is None else self._choose_gate(best, data)

    def _expect(
        self, components: State, gate: NDArray[np.float64], variables: NDArray[np.float32], given: Bits | None
    ) -> NDArray[np.float32]:
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
        self,
        shares: NDArray[np.float32],
        given: Bits | None,
        start: NDArray[np.float64] | None,
        penalty: float,
        steps: int,
    ) -> NDArray[np.float64]:
        """The gate W (G + 1, K) for the components' shares of the rows."""
        sums = shares.sum(1, dtype=np.float64) + 1.0
        offset = np.log(sums / sums.sum())
        if given is None:
            return offset[None]
        weights = regression.fit(
            given,
            lambda rows: shares[:, rows].T,
            regression.softmax,
            0.5,
            offset,
            penalty,
            None if start is None else start - np.eye(len(start), 1) * offset,
            steps,
        )
        return weights + np.eye(len(weights), 1) * offset

    def _choose_gate(self, found: Found, data: Data) -> Found:
        """The run with the gate's penalty chosen on held-out codes."""
        variables, given, held, held_given = data
        shares = self._expect(found.components, found.gate, variables, given)
        inside = self._evaluate(found.components, held, np.float64)
        best, gate = found, found.gate
        for penalty in regression.PENALTIES:
            gate = self._fit_gate(shares, given, gate, penalty, 60)
            score = log_sum_exp(inside + log_gate(gate, held_given).T)
            if score.mean() > best.valid.mean():
                best = Found(found.components, gate, score)
        return best

    # The mixture of all runs.

    def _log_weights(self, given: Bits | None) -> NDArray[np.float64]:
        """log w_k(g) of all components of all runs, (N, R K), or (1, R K) where nothing is given."""
        size = self._gate.shape[1] // self._runs
        parts = [log_gate(self._gate[:, i * size : (i + 1) * size], given) for i in range(self._runs)]
        return np.concatenate(parts, axis=1) - np.log(self._runs)

    def _log_prob(self, rows: Rows) -> NDArray[np.float64]:
        inside = self._evaluate(self._components, self._variables(rows), np.float64)
        return log_sum_exp(inside + self._log_weights(rows.given).T)

    def _width(self) -> int:
        return self.dim + 1

    def _sample(self, u: NDArray[np.float32], given: Bits | None, temperature: float) -> Bits:
        weights = regression.softmax(self._log_weights(given) / temperature)
        cumulative = np.cumsum(weights, axis=1)
        if given is None:
            which = np.searchsorted(cumulative[0], u[:, 0] * cumulative[0, -1], side="right")
        else:
            which = (cumulative <= u[:, :1] * cumulative[:, -1:]).sum(1)
        which = np.minimum(which, cumulative.shape[1] - 1)
        return self._draw(which, u[:, 1:], given, temperature)

    def _state(self) -> State:
        return {**self._components, "gate": self._gate, "runs": np.array([self._runs])}

    def _load_state(self, state: State) -> None:
        self._gate, self._runs = state["gate"], int(state["runs"][0])
        self._components = {name: array for name, array in state.items() if name not in ("gate", "runs")}
        if len(self._gate) != self.given_dim + 1 or self._gate.shape[1] % self._runs:
            raise ValueError(f"a gate of shape {self._gate.shape} for {self.given_dim} given bits")


Data = tuple[NDArray[np.float32], Bits | None, NDArray[np.float32], Bits | None]


class _Search:
    """Runs by (components, smoothing, start), each made once and kept in the checkpoint."""

    def __init__(self, prior: MixturePrior, data: Data, run: Run, shape: tuple[int, int]) -> None:
        self._prior, self._data, self._run = prior, data, run
        self._made: dict[tuple[int, float, int], Found] = {}
        self._starts = min(SEARCH_STARTS, prior.options.restarts)
        self._total = (sum(shape) - 2) * self._starts + prior.options.restarts  # if nothing ends early

    def one(self, size: int, smoothing: float, start: int) -> Found:
        key = (size, smoothing, start)
        if key not in self._made:
            done = min(len(self._made), self._total - 1)
            part = self._run.part(
                done / self._total, (done + 1) / self._total, f"{size}-{smoothing:g}-{start}"
            )
            kept = part.load()
            if kept is not None:
                state, _ = kept
                made = Found(
                    {n: a for n, a in state.items() if n not in ("gate", "valid")},
                    state["gate"],
                    state["valid"],
                )
            else:
                made = self._prior._one_run(self._data, size, smoothing, start, part)
                part.save({**made.components, "gate": made.gate, "valid": made.valid}, {})
            self._made[key] = made
        return self._made[key]

    def runs(self, size: int, smoothing: float, starts: int) -> list[Found]:
        return [self.one(size, smoothing, start) for start in range(starts)]

    def score(self, size: int, smoothing: float) -> float:
        """Mean log-likelihood of held-out codes under the average (or the best) of the runs."""
        each = np.stack([one.valid for one in self.runs(size, smoothing, self._starts)])
        if not self._prior.options.average:
            return float(each.mean(1).max())
        return float((log_sum_exp(each) - np.log(len(each))).mean())

    def climb(self, grid: list[int], smoothings: list[float]) -> tuple[int, float]:
        """More components while held-out codes gain; then another smoothing while they gain."""
        smoothing = smoothings[len(smoothings) // 2]
        if len(grid) == len(smoothings) == 1:
            return grid[0], smoothing
        size, best = grid[0], self.score(grid[0], smoothing)
        for larger in grid[1:]:
            score = self.score(larger, smoothing)
            if score <= best:
                break
            size, best = larger, score
        middle = len(smoothings) // 2
        for side in (smoothings[middle + 1 :], smoothings[:middle][::-1]):
            for other in side:
                score = self.score(size, other)
                if score <= best:
                    break
                smoothing, best = other, score
        return size, smoothing


def cluster(variables: NDArray[np.float32], size: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """A cluster for each row by Lloyd's k-means from random rows; an empty cluster begins anew at a row."""
    centres = variables[rng.choice(len(variables), size, replace=False)]
    nearest = np.zeros(len(variables), np.intp)
    for _ in range(LLOYD_STEPS):
        half = 0.5 * (centres**2).sum(1)
        for at in range(0, len(variables), regression.CHUNK):
            block = variables[at : at + regression.CHUNK]
            nearest[at : at + regression.CHUNK] = (block @ centres.T - half).argmax(1)
        counts = np.bincount(nearest, minlength=size)
        sums = _hard(nearest, size) @ variables
        centres = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        empty = np.nonzero(counts == 0)[0]
        centres[empty] = variables[rng.choice(len(variables), len(empty))]
    return nearest


def _hard(index: NDArray[np.intp], size: int) -> NDArray[np.float32]:
    shares = np.zeros((size, len(index)), np.float32)
    shares[index, np.arange(len(index))] = 1
    return shares


def log_gate(gate: NDArray[np.float64], given: Bits | None) -> NDArray[np.float64]:
    """log softmax of the gate's logits: (N, K), or (1, K) where nothing is given."""
    logits = gate if given is None else regression.design(given).astype(np.float64) @ gate
    logits = logits - logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def log_sum_exp(logs: Floats) -> NDArray[np.float64]:
    """log Σ_k exp of each column of (K, N)."""
    top = logs.max(0)
    return np.log(np.exp(logs - top).sum(0)) + top
