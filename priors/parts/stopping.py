r"""When a fit is done: what another network, pass or start gains is too little to be seen on held-out codes.

The mean of log p over M held-out codes of standard deviation s is known to the standard error s / √M. A fit stops
where what is left to gain is less than ``tolerance`` τ of these. Such a difference equals the standard error on
M / τ² codes: at τ = 0.05 on 400 times as many as there are.

Work is counted in arithmetic and not by a clock, so that a seed fixes the fit however busy the machine is. The
constants of the count were measured on two cores of an AMD EPYC of 2022; ``OLDER`` makes ``minutes`` a promise that
two cores of a server without AVX-512 keep, too, where the same fits took 2 to 3 times as long.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from priors.arrays import Float64
from priors.options import option

MINUTES = 24.0
OLDER = 3.0
LEAST = 1e-4  # nats, a gain that always counts as none: where there is one held-out code, or none differ
FALL_SHARE = 1 / 20  # of the tolerance, what a training may gain in vain before its rate falls
MEMBER_SHARE = (
    1 / 4
)  # of the tolerance, what an average may lose without the members to come; the estimate is noisy


def tolerance_option() -> Any:
    """The option of every kind that fits for long."""
    return option(
        0.05,
        "a fit ends where it would gain less than so many standard errors of the held-out mean; 0: less than 1e-4 nats",
        low=0.0,
    )


def minutes_option() -> Any:
    """The option of every kind that fits for long."""
    return option(
        MINUTES,
        "a fit takes at most about so long on two cores of an older server, a third on a recent one; counted in "
        "arithmetic and not by a clock",
        low=0.01,
    )


def seconds(minutes: float) -> float:
    """What the minutes of an older server are in seconds of the processor that work was measured on."""
    return minutes * 60 / OLDER


def least_gain(logs: Float64, tolerance: float) -> float:
    """τ s / √M in nats, for log p of M held-out codes (M,).

    Example:
        >>> least_gain(np.array([-1.0, -3.0, -1.0, -3.0]), 0.5).__round__(4)
        0.2887
    """
    error = float(np.std(logs, ddof=1) / np.sqrt(len(logs))) if len(logs) > 1 else 0.0
    return max(LEAST, tolerance * error)


def left_to_gain(score: float, without: list[float], more: int) -> float:
    r"""What ``more`` members would still add to the average of k that are alike.

    The mean log-likelihood of an average of k members that are drawn alike is close to ``f(k) = f − c / k``. The
    loss without one of them, averaged over all k, estimates ``f(k) − f(k − 1) = c / (k (k − 1))``, and so
    ``f(k + more) − f(k) = (f(k) − f(k − 1)) (k − 1) more / (k + more)``.

    Arguments:
        score: Mean held-out log-likelihood of the average of all.
        without: The same without each of the k ≥ 2 members.
        more: Members that may still come.

    Example:
        >>> curve = lambda k: -5 - 1 / k
        >>> round(left_to_gain(curve(4), [curve(3)] * 4, 8), 6) == round(curve(12) - curve(4), 6)
        True
    """
    k = len(without)
    return (score - float(np.mean(without))) * (k - 1) * more / (k + more)
