"""Sparse chains: they see earlier bits only, reach the truth that they can express, and shrink what is noise."""

from __future__ import annotations

import numpy as np
import pytest

import priors
from priors.fit import Rows, independent_nats
from priors.kinds.autoregressive import logistic_chain as chain
from priors.kinds.autoregressive.averaging import best_weights
from priors.parts.numerics import log_sigmoid, sigmoid


def drawn(n: int, bias: np.ndarray, weights: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """Codes of a chain, and their mean log-likelihood under it."""
    rng, dim = np.random.default_rng(seed), len(bias)
    x, log_p = np.zeros((n, dim)), np.zeros(n)
    for t in range(dim):
        z = bias[t] + x @ weights[t]
        x[:, t] = 2.0 * (rng.random(n) < sigmoid(z)) - 1
        log_p += log_sigmoid(z * x[:, t])
    return (x > 0).astype(np.uint8), float(log_p.mean())


def known(dim: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return 0.3 * rng.normal(size=dim), np.tril(
        rng.normal(size=(dim, dim)) * (rng.random((dim, dim)) < 0.3), -1
    )


def test_a_known_chain_is_found_again() -> None:
    """P parameters that are fitted to N codes cost about P / (2 N) nats: 60 / 16,000 here, far below 0.02; the mean
    of M = 4,000 log-likelihoods is the same for both up to far less than that."""
    truth = known(12)
    train, _ = drawn(8000, *truth, seed=1)
    valid, log_p = drawn(4000, *truth, seed=2)
    found = chain.fit(Rows(train), Rows(valid))
    assert found.loss(Rows(valid)) == pytest.approx(-log_p, abs=0.02)
    assert -log_p < -independent_nats(train, valid) - 0.5


def test_weights_look_back_only_and_noise_is_left_out() -> None:
    """Of independent bits most weights are exactly 0 at the penalty that is best on valid."""
    rng = np.random.default_rng(0)
    train, valid = (rng.integers(0, 2, (n, 30), np.uint8) for n in (500, 2000))
    given = rng.integers(0, 2, (2500, 3), np.uint8)
    found = chain.fit(Rows(train, given[:500]), Rows(valid, given[500:]))
    assert found.weights.shape == (30, 33)
    assert (found.weights[:, 3:][np.triu_indices(30)] == 0).all()
    assert (found.weights != 0).mean() < 0.25
    assert found.loss(Rows(valid, given[500:])) < 30 * np.log(2) + 0.3


@pytest.mark.parametrize("work", [np.inf, 0.0])
def test_constant_and_equal_bits_stay_finite(work: float) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (60, 5), np.uint8)
    bits[:, 1], bits[:, 2], bits[:, 4] = 0, 1, bits[:, 3]
    found = chain.fit(Rows(bits), Rows(bits), work)
    assert np.isfinite(found.weights).all() and np.isfinite(found.bias).all()
    assert np.isfinite(found.loss(Rows(1 - bits)))


def test_a_network_of_no_epochs_is_its_chain_and_training_only_gains() -> None:
    truth = known(8)
    train, valid = (drawn(n, *truth, seed=n)[0] for n in (1500, 500))
    made = chain.fit(Rows(train), Rows(valid))
    order = tuple(range(8))
    alone = priors.create(
        "autoregressive", dim=8, order=order, start="chain", epochs=0, hidden=16, channels=4
    )
    alone.fit(train, valid=valid)
    assert -alone.log_prob(valid).mean() == pytest.approx(made.loss(Rows(valid)), abs=1e-5)
    longer = priors.create(
        "autoregressive", dim=8, order=order, start="chain", epochs=5, hidden=16, channels=4
    )
    assert longer.fit(train, valid=valid).valid_nats >= alone.report.valid_nats - 1e-6


def test_networks_that_learn_nothing_are_independent_bits() -> None:
    bits = drawn(500, *known(5), seed=1)[0]
    prior = priors.create(
        "autoregressive", dim=5, members=3, start="independent", epochs=0, hidden=0, channels=0
    )
    report = prior.fit(bits)
    assert report.valid_bits_per_code == pytest.approx(report.independent_bits_per_code, abs=1e-4)


def test_a_single_network_is_the_better_of_both_starts() -> None:
    truth = known(8)
    train, valid = (drawn(n, *truth, seed=n)[0] for n in (1500, 500))
    size = {"members": 1, "epochs": 3, "hidden": 16, "channels": 0}
    both = [
        priors.create("autoregressive", dim=8, start=start, **size).fit(train, valid=valid).valid_nats
        for start in ("chain", "independent")
    ]
    prior = priors.create("autoregressive", dim=8, **size)
    assert prior.fit(train, valid=valid).valid_nats == pytest.approx(max(both), abs=0.02)
    assert len(prior._networks) == 1


def test_weights_of_members_are_those_of_most_likelihood() -> None:
    """One member is better everywhere: it takes nearly all; members that win on half of the codes each share."""
    logs = np.zeros((2, 1000))
    logs[1] -= 5
    np.testing.assert_allclose(best_weights(logs), [1, 0], atol=0.01)
    logs = np.zeros((3, 1000))
    logs[0, ::2], logs[1, 1::2], logs[2] = -3, -3, -3
    found = best_weights(logs)
    np.testing.assert_allclose(found, [0.5, 0.5, 0], atol=0.01)
    assert (found > 0).all() and found.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["mixture", "chow-liu-mixture", "autoregressive", "masked-diffusion"])
def test_few_minutes_are_enough_for_a_prior(kind: str) -> None:
    """However few the minutes: a whole prior, the same for the same seed."""
    bits = drawn(3000, *known(10), seed=3)[0]
    size = {"hidden": 32, "layers": 1} if kind == "masked-diffusion" else {}
    made = [priors.create(kind, dim=10, minutes=0.01, **size) for _ in range(2)]
    reports = [prior.fit(bits) for prior in made]
    assert reports[0].chosen == reports[1].chosen
    assert reports[0].gain_bits_per_code > (0.2 if kind != "masked-diffusion" else -0.5)
    np.testing.assert_array_equal(made[0].log_prob(bits[:50]), made[1].log_prob(bits[:50]))
