"""The choice of a mixture's size and smoothing on held-out codes, within a number of minutes.

Time is counted in steps of expectation maximization, each of a known estimated length, and not by a clock: what
is chosen depends on the seed and the codes alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from priors.arrays import Float64
from priors.fit import Fit
from priors.options import option
from priors.parts.numerics import log_sum_exp
from priors.parts.stopping import (
    MEMBER_SHARE,
    least_gain,
    left_to_gain,
    minutes_option,
    seconds,
    tolerance_option,
)
from priors.storage import State, part

STARTS = 2  # starts that a choice averages
SEARCH_SHARE = 0.6  # of the minutes that the choices may take
RUN_SHARE = 0.15  # of the minutes that one start may take
LEAST_STEPS = 3


@dataclasses.dataclass(frozen=True)
class MixtureOptions:
    """Options of the mixtures."""

    components: int | None = option(None, "components of a run; auto chooses on valid", low=1)
    smoothing: float | None = option(
        None, "codes' worth of shrinkage of a component toward all codes; auto chooses on valid", low=1e-6
    )
    restarts: int = option(8, "at most so many runs of expectation maximization from different starts", low=1)
    average: bool = option(True, "average the runs; else keep the one that is best on valid")
    steps: int = option(60, "at most so many steps of a run", low=1)
    tolerance: float = tolerance_option()
    minutes: float = minutes_option()


@dataclasses.dataclass(frozen=True)
class Candidate:
    """The mixture that one start led to."""

    components: State  # arrays by name, each with K first
    gate: Float64  # (G + 1, K), the logits of the weights
    valid: Float64  # (M,), log p of the held-out rows

    def state(self, prefix: str = "") -> State:
        """The arrays by name."""
        arrays = {**self.components, "gate": self.gate, "valid": self.valid}
        return {prefix + name: array for name, array in arrays.items()}

    @classmethod
    def from_state(cls, state: State, prefix: str = "") -> Candidate:
        """The candidate that :meth:`state` took apart."""
        arrays = part(state, prefix)
        return cls(gate=arrays.pop("gate"), valid=arrays.pop("valid"), components=arrays)


class Search:
    """Candidates by (components, smoothing, start), each fitted once and kept in the checkpoint.

    Arguments:
        one_run: Expectation maximization from one start: components, smoothing, number of the start, most steps
            and its part of the fit, to the candidate and the steps taken.
        step_seconds: Components to the estimated seconds of a step.
        options: :class:`MixtureOptions`.
        fit: Progress and checkpoint.
    """

    def __init__(
        self,
        one_run: Callable[[int, float, int, int, Fit], tuple[Candidate, int]],
        step_seconds: Callable[[int], float],
        options: MixtureOptions,
        fit: Fit,
    ) -> None:
        self._one_run, self._step_seconds, self._options, self._fit = one_run, step_seconds, options, fit
        self._candidates: dict[tuple[int, float, int], Candidate] = {}
        self._total, self._spent, self._done = seconds(options.minutes), 0.0, 0.0
        self._starts = min(STARTS, options.restarts)
        self.stopped = "restarts"  # or: tolerance, minutes

    def _cost(self, size: int) -> tuple[float, int]:
        """The seconds of a step, and the steps that a start may take."""
        each = self._step_seconds(size)
        return each, min(self._options.steps, max(LEAST_STEPS, int(RUN_SHARE * self._total / each)))

    def _affordable(self, size: int, starts: int, share: float) -> bool:
        """Whether so many more starts of usual length leave the minutes unspent."""
        each, steps = self._cost(size)
        enough = self._spent + starts * each * steps * 0.5 <= share * self._total
        if not enough:
            self.stopped = "minutes"
        return enough

    def candidate(self, size: int, smoothing: float, start: int) -> Candidate:
        """The candidate of one start."""
        key = (size, smoothing, start)
        if key not in self._candidates:
            each, steps = self._cost(size)
            high = min(0.98, max(self._done, (self._spent + each * steps) / self._total))
            stretch = self._fit.part(self._done, high, f"{size}-{smoothing:g}-{start}")
            self._candidates[key], taken = self._one_run(size, smoothing, start, steps, stretch)
            self._spent += each * taken
            self._done = high
        return self._candidates[key]

    def candidates(self, size: int, smoothing: float) -> list[Candidate]:
        """The candidates of as many starts as are asked for, affordable and of use, at least the first."""
        starts = [self.candidate(size, smoothing, 0)]
        for start in range(1, self._options.restarts):
            if self._options.average and self._enough(starts):
                self.stopped = "tolerance"
                break
            if (size, smoothing, start) in self._candidates or self._affordable(size, 1, 1.0):
                starts.append(self.candidate(size, smoothing, start))
        return starts

    def _enough(self, starts: list[Candidate]) -> bool:
        """Whether the starts that may still come would add less to the average than the tolerance."""
        if len(starts) < 2:
            return False
        logs = np.stack([one.valid for one in starts])
        average = average_log_prob(logs)
        without = [float(average_log_prob(np.delete(logs, i, axis=0)).mean()) for i in range(len(starts))]
        left = left_to_gain(float(average.mean()), without, self._options.restarts - len(starts))
        return left < least_gain(average, MEMBER_SHARE * self._options.tolerance)

    def score(self, size: int, smoothing: float) -> float:
        """Mean log-likelihood of held-out codes under the average (or the best) of the first starts."""
        each = np.stack([self.candidate(size, smoothing, start).valid for start in range(self._starts)])
        return float(average_log_prob(each).mean() if self._options.average else each.mean(1).max())

    def climb(self, grid: list[int], smoothings: Sequence[float]) -> tuple[int, float]:
        """More components while held-out codes gain; then another smoothing while they gain."""
        middle = len(smoothings) // 2
        size, smoothing = grid[0], smoothings[middle]
        if len(grid) == len(smoothings) == 1:
            return size, smoothing
        best = self.score(size, smoothing)
        for larger in grid[1:]:
            if not self._affordable(larger, self._starts, SEARCH_SHARE):
                break
            score = self.score(larger, smoothing)
            if score <= best:
                break
            size, best = larger, score
        for side in (smoothings[middle + 1 :], smoothings[:middle][::-1]):
            for other in side:
                if not self._affordable(size, self._starts, SEARCH_SHARE):
                    break
                score = self.score(size, other)
                if score <= best:
                    break
                smoothing, best = other, score
        return size, smoothing


def average_log_prob(logs: Float64) -> Float64:
    """log p of held-out codes (M,) under the average of R mixtures, from their log p (R, M)."""
    return log_sum_exp(logs, 0) - np.log(len(logs))
