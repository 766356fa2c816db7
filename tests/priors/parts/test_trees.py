"""Trees: the spanning tree is maximal, the fast likelihood equals the plain one, conditionals are exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree

import priors
from priors.parts import trees


def codes(dim: int) -> np.ndarray:
    return np.array(list(itertools.product([0, 1], repeat=dim)), np.uint8)


def chain(n: int, dim: int, stay: float = 0.85, seed: int = 0) -> np.ndarray:
    """A Markov chain over the bits: bit i repeats bit i − 1 with probability ``stay``."""
    rng = np.random.default_rng(seed)
    flips = rng.random((n, dim)) > stay
    flips[:, 0] = rng.random(n) < 0.5
    return (np.cumsum(flips, axis=1) % 2).astype(np.uint8)


def test_the_spanning_tree_has_the_weight_of_scipys() -> None:
    rng = np.random.default_rng(0)
    weights = rng.random((30, 30)) + 0.1
    weights = weights + weights.T
    parent, order = trees.spanning_tree(weights, 0)
    total = sum(weights[i, p] for i, p in enumerate(parent) if p >= 0)
    assert total == pytest.approx(-minimum_spanning_tree(-weights).sum())
    place = np.argsort(order)
    assert all(place[p] < place[i] for i, p in enumerate(parent) if p >= 0)


def test_trees_grow_from_given_bits_and_never_into_them() -> None:
    weights = np.random.default_rng(1).random((12, 12))
    weights = weights + weights.T
    parent, order = trees.spanning_tree(weights, 4)
    assert parent.shape == (8,) and sorted(order) == list(range(8)) and (parent >= 0).all()
    place = np.argsort(order)
    assert all(p < 4 or place[p - 4] < place[i] for i, p in enumerate(parent))


def test_mutual_information_in_closed_form() -> None:
    """Two bits that agree with probability 0.9 and are even: log 2 − H(0.9)."""
    pairs = np.array([[0.5, 0.45], [0.45, 0.5]])
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert trees.mutual_information(pairs)[0, 1] == pytest.approx(np.log(2) - entropy)


@pytest.mark.parametrize("roots", [0, 3])
def test_the_fast_likelihood_equals_the_plain_product(roots: int) -> None:
    rng = np.random.default_rng(2)
    variables = rng.integers(0, 2, (200, 9)).astype(np.float32)
    parts = []
    for seed in range(3):
        rows = np.random.default_rng(seed).integers(0, 200, 50)
        pairs = trees.pair_counts(variables[rows]) / 50
        parts.append(
            trees.fit_tree(trees.shrink(pairs * 50, 50, trees.independent(pairs * 50, 50), 1), roots)
        )
    joined = trees.join(parts)
    fast = trees.Likelihood(joined, roots)(variables)
    v = variables.astype(int)
    for k in range(3):
        plain = np.zeros(200)
        for i in range(9 - roots):
            p = joined.parent[k, i]
            above = v[:, p] if p >= 0 else np.zeros(200, int)
            plain += joined.table[k, i, above, v[:, roots + i]]
        np.testing.assert_allclose(fast[k], plain, atol=1e-10)


def test_a_chain_is_found_and_its_likelihood_reached() -> None:
    """20 parameters fitted to 20,000 codes are about 20 / 40,000 nats off; 0.01 is 20 times that."""
    prior = priors.create("chow-liu", dim=10)
    prior.fit(chain(20_000, 10), valid=chain(2000, 10, seed=1))
    edges = {tuple(sorted((i, int(p)))) for i, p in enumerate(prior._trees.parent[0]) if p >= 0}
    assert edges == {(i, i + 1) for i in range(9)}
    test = chain(5000, 10, seed=2)
    agree = (test[:, 1:] == test[:, :-1]).mean()
    truth = np.log(0.5) + 9 * (agree * np.log(0.85) + (1 - agree) * np.log(0.15))
    assert prior.log_prob(test).mean() == pytest.approx(truth, abs=0.01)


def test_a_tree_per_label_is_its_own_conditional() -> None:
    """Labels turn the chain from repeating to alternating: no common tree can say both."""
    label = np.random.default_rng(3).integers(0, 2, 10_000)
    bits = np.where(label[:, None] == 0, chain(10_000, 6), chain(10_000, 6, stay=0.15, seed=1)).astype(
        np.uint8
    )
    given = np.eye(2, dtype=np.uint8)[label]
    prior = priors.create("chow-liu", dim=6)
    assert prior.fit(bits, given=given).chosen["conditioning"] == "values"
    moves = (codes(6)[:, 1:] != codes(6)[:, :-1]).sum(1)
    truth = np.log(0.5) + moves * np.log(0.15) + (5 - moves) * np.log(0.85)
    got = prior.log_prob(codes(6), np.tile(given[label == 0][:1], (64, 1)))
    assert np.sum(np.exp(truth) * (truth - got)) < 0.005


def test_given_bits_become_parents() -> None:
    rng = np.random.default_rng(4)
    given = rng.integers(0, 2, (5000, 16), np.uint8)
    bits = given[:, :8] ^ (rng.random((5000, 8)) < 0.1).astype(np.uint8)
    prior = priors.create("chow-liu", dim=8)
    assert prior.fit(bits, given=given).chosen["conditioning"] == "parents"
    assert (prior._trees.parent[0] == np.arange(8)).all()
    assert np.mean(prior.sample(5000, given=given) == given[:, :8]) == pytest.approx(0.9, abs=0.01)
    with pytest.raises(priors.PriorError, match=r"'values', and given has .* distinct values"):
        priors.create("chow-liu", dim=8, conditioning="values").fit(bits, given=given)
