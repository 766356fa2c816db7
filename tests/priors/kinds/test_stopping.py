"""A fit ends where what is left to gain is below its tolerance, says so, and loses no more than that."""

from __future__ import annotations

import numpy as np
import pytest

import priors
from priors.parts import stopping

TINY = {"hidden": 24, "epochs": 150, "patience": 3}
LONG = {
    "autoregressive": {**TINY, "channels": 0},
    "masked-diffusion": {**TINY, "epochs": 400, "layers": 1, "steps": 4, "orders": 2},
    "mixture": {"components": 5},
    "chow-liu-mixture": {"components": 3},
}


def groups(n: int, seed: int = 0, dim: int = 6) -> np.ndarray:
    """Codes of three groups, which every kind comes close to in a while."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).random((3, dim)) < 0.5
    return (centers[rng.integers(0, 3, n)] ^ (rng.random((n, dim)) < 0.15)).astype(np.uint8)


@pytest.mark.parametrize("kind", LONG)
def test_a_fit_that_is_done_stops_by_its_tolerance_and_loses_no_more_than_that(kind: str) -> None:
    """The held-out mean is worse by at most the tolerance's standard errors than without a tolerance; here 0.3,
    so that the estimate of what is left is seen to keep a limit that is not far below what noise would hide."""
    bits, valid, tolerance = groups(1000), groups(400, seed=1), 0.3
    reports, errors, calls = {}, {}, {}
    for given in (tolerance, 0.0):
        ticks: list[float] = []
        prior = priors.create(kind, dim=6, tolerance=given, **LONG[kind])
        reports[given] = prior.fit(
            bits, valid=valid, progress=lambda done, _, ticks=ticks: ticks.append(done)
        )
        errors[given] = np.std(prior.log_prob(valid), ddof=1) / np.sqrt(len(valid))
        calls[given] = len(ticks)  # one for each step
    assert reports[tolerance].chosen["stopped"] == "tolerance"
    assert reports[tolerance].valid_nats > reports[0.0].valid_nats - tolerance * errors[0.0]
    assert calls[tolerance] < calls[0.0]


@pytest.mark.parametrize("kind", LONG)
def test_a_fit_says_what_else_ended_it(kind: str) -> None:
    many = {"components": 64, "restarts": 50} if "mixture" in kind else {"hidden": 512, "epochs": 10**6}
    prior = priors.create(kind, dim=12, tolerance=0.0, **(LONG[kind] | {"minutes": 0.01} | many))
    chosen = prior.fit(groups(6000, dim=12)).chosen
    assert chosen["stopped"] == "minutes"


def test_as_many_networks_as_were_asked_for_are_fitted() -> None:
    prior = priors.create("autoregressive", dim=6, members=4, tolerance=10.0, **LONG["autoregressive"])
    chosen = prior.fit(groups(300)).chosen
    assert chosen["stopped"] == "members" and len(chosen["trained"]) == 4


def test_what_is_left_to_gain_is_that_of_a_known_curve() -> None:
    """Averages of k unbiased estimates of a probability: log of a mean of Gamma variables, whose expectation is
    digamma(k a) − log(k a) ≈ −1 / (2 k a); with a = 20, ten more than six gain 1 / 40 (1 / 6 − 1 / 16) = 0.0026.
    Over 200,000 codes the leave-one-out estimate of that has a standard error below 2e-4."""
    rng = np.random.default_rng(0)
    p = rng.gamma(20.0, 1 / 20.0, (6, 200_000))
    score = np.log(p.mean(0)).mean()
    without = [np.log(np.delete(p, i, axis=0).mean(0)).mean() for i in range(6)]
    assert stopping.left_to_gain(score, without, 10) == pytest.approx(0.0026, abs=6e-4)


def test_minutes_are_those_of_an_older_server() -> None:
    """The default is as much arithmetic as eight minutes were on the processor that the count was measured on."""
    assert stopping.seconds(stopping.MINUTES) == pytest.approx(8 * 60)
    for kind in LONG:
        assert priors.describe(kind)["options"]["minutes"].default == stopping.MINUTES


def test_one_held_out_code_tells_no_error() -> None:
    assert stopping.least_gain(np.array([-3.0]), 0.05) == stopping.LEAST
