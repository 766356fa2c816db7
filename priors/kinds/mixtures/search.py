"""The choice of a mixture's size and smoothing on held-out codes, within a number of minutes.

Time is counted in steps of expectation maximisation, each of a known estimated length, and not by a clock: what
is chosen depends on the seed and the codes alone.
"""

from __future__ import annotations

import numpy as np

from priors.fit import Run
from priors.kinds.mixtures.em import Data, Found, MixturePrior
from priors.parts.numerics import log_sum_exp

STARTS = 2  # runs that a choice averages
SEARCH_SHARE = 0.6  # of the minutes that the choices may take
RUN_SHARE = 0.15  # of the minutes that one run may take
LEAST_STEPS = 3


class Search:
    """Runs by (components, smoothing, start), each made once and kept in the checkpoint."""

    def __init__(self, prior: MixturePrior, data: Data, run: Run) -> None:
        self._prior, self._data, self._run = prior, data, run
        self._common = prior._common(data[0])
        self._made: dict[tuple[int, float, int], Found] = {}
        self._total, self._spent, self._done = prior.options.minutes * 60, 0.0, 0.0
        self._starts = min(STARTS, prior.options.restarts)

    def _seconds(self, size: int) -> tuple[float, int]:
        """Of a step, and the steps that a run may take."""
        step = self._prior._step_seconds(len(self._data[0]) + len(self._data[2]), size)
        steps = min(self._prior.options.steps, max(LEAST_STEPS, int(RUN_SHARE * self._total / step)))
        return step, steps

    def _affordable(self, size: int, starts: int, share: float) -> bool:
        """Whether so many more runs of usual length leave the minutes unspent."""
        step, steps = self._seconds(size)
        return self._spent + starts * step * steps * 0.5 <= share * self._total

    def one(self, size: int, smoothing: float, start: int) -> Found:
        key = (size, smoothing, start)
        if key not in self._made:
            step, steps = self._seconds(size)
            high = min(0.98, max(self._done, (self._spent + step * steps) / self._total))
            part = self._run.part(self._done, high, f"{size}-{smoothing:g}-{start}")
            self._made[key], taken = self._prior._one_run(
                self._data, self._common, size, smoothing, start, steps, part
            )
            self._spent += step * taken
            self._done = high
        return self._made[key]

    def runs(self, size: int, smoothing: float) -> list[Found]:
        """Finished runs from as many starts as are asked for and affordable, at least the first."""
        made = [self.one(size, smoothing, 0)]
        for start in range(1, self._prior.options.restarts):
            if (size, smoothing, start) in self._made or self._affordable(size, 1, 1.0):
                made.append(self.one(size, smoothing, start))
        return made

    def score(self, size: int, smoothing: float) -> float:
        """Mean log-likelihood of held-out codes under the average (or the best) of the runs."""
        each = np.stack([self.one(size, smoothing, start).valid for start in range(self._starts)])
        if not self._prior.options.average:
            return float(each.mean(1).max())
        return float((log_sum_exp(each, 0) - np.log(len(each))).mean())

    def climb(self, grid: list[int], smoothings: list[float]) -> tuple[int, float]:
        """More components while held-out codes gain; then another smoothing while they gain."""
        smoothing = smoothings[len(smoothings) // 2]
        if len(grid) == len(smoothings) == 1:
            return grid[0], smoothing
        size, best = grid[0], self.score(grid[0], smoothing)
        for larger in grid[1:]:
            if not self._affordable(larger, self._starts, SEARCH_SHARE):
                break
            score = self.score(larger, smoothing)
            if score <= best:
                break
            size, best = larger, score
        middle = len(smoothings) // 2
        for side in (smoothings[middle + 1 :], smoothings[:middle][::-1]):
            for other in side:
                if not self._affordable(size, self._starts, SEARCH_SHARE):
                    break
                score = self.score(size, other)
                if score <= best:
                    break
                smoothing, best = other, score
        return size, smoothing
