"""Flips: the fewest there are, locks that hold, a brake that brakes, and probes that are what the head says."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from dmzcli.analysis.flips import Locks, Rule, edit_bits, find_target, fit_probes, random_flips
from dmzcli.analysis.probes.targets import Target
from dmzcli.errors import UserError

DIM = 8
RNG = np.random.default_rng(0)
BITS = RNG.integers(0, 2, (30, DIM), dtype=np.uint8)
WEIGHTS, INTERCEPTS = RNG.normal(size=(30, DIM)), RNG.normal(size=30) - 1


def odds(bits, sign=1):
    return sign * ((bits * WEIGHTS).sum(1) + INTERCEPTS)


def fewest(row, rule, free):
    """The least number of flips that passes the threshold, by trying all sets; ``None`` if none does."""
    for count in range(len(free) + 1):
        for chosen in combinations(free, count):
            code = BITS.copy()
            code[row, list(chosen)] ^= 1
            if odds(code, rule.sign)[row] >= rule.log_odds:
                return count
    return None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("locked", [(), (0, 3, 6)])
def test_the_flips_are_the_fewest(sign, locked):
    rule, locks = Rule(sign, 0.9, DIM), Locks.none(DIM)
    locks.bits[list(locked)] = True
    edited = edit_bits(BITS, WEIGHTS, INTERCEPTS, locks, rule)
    free = [i for i in range(DIM) if i not in locked]
    passed = odds(edited, sign) >= rule.log_odds
    needed = [fewest(row, rule, free) for row in range(len(BITS))]
    assert passed.tolist() == [count is not None for count in needed]
    assert passed.any() and (BITS != edited).sum(1).max() > 1
    counts = (BITS != edited).sum(1)
    assert counts[passed].tolist() == [count for count in needed if count is not None]
    assert not (BITS != edited)[:, list(locked)].any()


def test_a_budget_too_small_takes_the_most_that_it_can():
    rule = Rule(1, 0.999999, 2)
    edited = edit_bits(BITS, WEIGHTS, INTERCEPTS, Locks.none(DIM), rule)
    gains = WEIGHTS * (1.0 - 2.0 * BITS)
    best = np.sort(np.maximum(gains, 0), axis=1)[:, -2:].sum(1)
    np.testing.assert_allclose(odds(edited) - odds(BITS), best, atol=1e-12)


def test_what_is_past_the_threshold_stays():
    low = Rule(1, 1 / (1 + np.exp(100.0)), DIM)  # every code's log-odds are above −100
    assert (edit_bits(BITS, WEIGHTS, INTERCEPTS, Locks.none(DIM), low) == BITS).all()


def test_locked_targets_decide_as_before():
    others = RNG.normal(size=(DIM, 2))
    locks = Locks(np.zeros(DIM, bool), others, np.zeros(2), ("a", "b"))
    free, kept = (
        edit_bits(BITS, WEIGHTS, INTERCEPTS, which, Rule(1, 0.99, DIM)) for which in (Locks.none(DIM), locks)
    )
    before = BITS @ others > 0
    assert ((free @ others > 0) != before).any()  # without the lock they would turn
    assert ((kept @ others > 0) == before).all() and (kept != BITS).any()


def test_a_brake_trades_gain_for_probability():
    """Under p(z) = Π p_i the brake is a shift of each gain by λ (log-odds of the bit), which is known exactly."""
    logits = RNG.normal(size=DIM)
    prior = SimpleNamespace(log_prob=lambda codes: codes.astype(float) @ logits)
    rule = Rule(1, 0.9999, DIM, prior, 0.7)
    edited = edit_bits(BITS, WEIGHTS, INTERCEPTS, Locks.none(DIM), rule)
    signs = 1.0 - 2.0 * BITS
    gains = WEIGHTS * signs
    worth = np.where(gains > 0, gains + 0.7 * signs * logits, -np.inf)
    order = np.argsort(-worth, axis=1)
    expected = BITS.copy()
    for row in range(len(BITS)):
        for i in order[row]:
            if worth[row, i] <= 0 or odds(expected)[row] >= rule.log_odds:
                break
            expected[row, i] ^= 1
    assert (edited == expected).all()
    free = edit_bits(BITS, WEIGHTS, INTERCEPTS, Locks.none(DIM), Rule(1, 0.9999, DIM))
    assert prior.log_prob(edited).sum() > prior.log_prob(free).sum()


def test_a_strong_brake_flips_nothing_that_costs():
    prior = SimpleNamespace(log_prob=lambda codes: -codes.sum(1, dtype=float))
    edited = edit_bits(
        np.zeros_like(BITS), WEIGHTS, INTERCEPTS, Locks.none(DIM), Rule(1, 0.99, DIM, prior, 1e3)
    )
    assert not edited.any()


def test_probes_are_the_heads_own_scores():
    """On separable bits the probe of bit i weighs bit i most, and its log-odds are linear in the code."""
    codes = RNG.integers(0, 2, (400, DIM), dtype=np.uint8)
    target = Target("attributes", codes[:, [2, 5]], ("two", "five"), exclusive=False)
    rows = {"train": np.arange(300), "valid": np.arange(300, 400)}
    probes = fit_probes(codes, target, rows)
    assert np.abs(probes.weights).argmax(0).tolist() == [2, 5] and probes.auroc == 1.0
    assert ((probes.log_odds(codes) > 0) == codes[:, [2, 5]]).all()


TARGETS = [
    Target("labels", np.eye(3, dtype=np.uint8), ("bag", "boot", "3"), exclusive=True),
    Target("attributes", np.eye(3, dtype=np.uint8)[:, :2], ("bag", "round"), False, ("flat",)),
]


def test_names_of_targets():
    assert find_target("boot", TARGETS) == (0, 1) and find_target("round", TARGETS) == (1, 1)
    assert find_target("class:bag", TARGETS) == (0, 0) and find_target("attribute:bag", TARGETS) == (1, 0)
    for name, message in (
        ("bag", "'bag' is a class and an attribute"),
        ("bott", "there is no class or attribute 'bott'"),
        ("flat", "'flat' is constant in a split"),
    ):
        with pytest.raises(UserError, match=message):
            find_target(name, TARGETS)
    with pytest.raises(UserError) as caught:
        find_target("bott", TARGETS)
    assert caught.value.hint == "did you mean 'boot'?"


def test_locks_by_number_range_and_name():
    probe = SimpleNamespace(
        weights=np.arange(24.0).reshape(8, 3), intercepts=np.arange(3.0), names=("a", "b", "3")
    )
    locks = Locks.parse(["1", "4-6", "class:3"], DIM, TARGETS[:1], [probe])
    assert np.flatnonzero(locks.bits).tolist() == [1, 4, 5, 6]
    assert locks.names == ("3",) and locks.weights[:, 0].tolist() == probe.weights[:, 2].tolist()
    for entry, message in (
        ("8", "--lock 8 is no bit of a code of 8"),
        ("6-2", "--lock 6-2 is no bit"),
        ("7-8", "--lock 7-8 is no bit"),
        ("bog", "there is no class or attribute 'bog'"),
        ("0-7", "locks every bit"),
    ):
        with pytest.raises(UserError, match=message):
            Locks.parse([entry], DIM, TARGETS[:1], [probe])


def test_random_flips_are_as_many_and_of_the_row_alone():
    counts = np.arange(len(BITS)) % 5
    locked = np.arange(DIM) < 2
    edited = random_flips(BITS, counts, locked, seed=1)
    assert ((edited != BITS).sum(1) == counts).all() and not (edited != BITS)[:, locked].any()
    assert (random_flips(BITS[:7], counts[:7], locked, seed=1) == edited[:7]).all()
    assert (random_flips(BITS, counts, locked, seed=2) != edited).any()
