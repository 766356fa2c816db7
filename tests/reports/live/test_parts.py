"""Completions, ways, readings and the desk, by their laws."""

import threading

import numpy as np
import pytest

import priors
from dmzcli.reports.live.completion import climb, complete, path
from dmzcli.reports.live.desk import Busy, Desk, Superseded
from dmzcli.reports.live.reading import Reader, fewest_flips

DIM = 4
ALL = np.array(list(np.ndindex(*(2,) * DIM)), np.uint8)


@pytest.fixture(scope="module")
def prior():
    """A prior whose bits depend on each other: the first two mostly agree, and so do the last two."""
    random = np.random.default_rng(0)
    pairs = random.integers(0, 2, (2000, 2), np.uint8)
    noise = (random.random((2000, DIM)) < 0.15).astype(np.uint8)
    made = priors.create("chow-liu", dim=DIM)
    made.fit(np.repeat(pairs, 2, 1) ^ noise)
    return made


@pytest.mark.parametrize("draws", [1024, 1])
def test_completions_have_the_conditional_law(prior, draws):
    """With 1024 draws one always agrees here; with one, Glauber dynamics do the rest."""
    locked = np.array([True, False, True, False])
    bits = np.array([1, 0, 0, 0], np.uint8)
    count = 600
    found = [complete(prior, bits, locked, seed, draws=draws) for seed in range(count)]
    codes = np.stack([one.bits for one in found])
    assert (codes[:, locked] == bits[locked]).all()
    assert {one.how for one in found} == ({"exact"} if draws > 1 else {"exact", "Gibbs"})
    agrees = (ALL[:, locked] == bits[locked]).all(1)
    expected = np.exp(prior.log_prob(ALL[agrees]))
    expected /= expected.sum()
    shares = [(codes == code).all(1).mean() for code in ALL[agrees]]
    # Four standard errors of a share of 600: 4 · √(¼ / 600) = 0.082; five rounds leave about e⁻⁵ of bias.
    assert np.abs(shares - expected).max() < 0.09


def test_the_climb_ends_where_no_free_flip_is_likelier(prior):
    locked = np.array([True, False, False, False])
    for start in ALL:
        end = climb(prior, start, locked)
        near = end ^ np.eye(DIM, dtype=np.uint8)[~locked]
        assert end[0] == start[0] and prior.log_prob(near).max() <= prior.log_prob(end[None])[0] + 1e-9


def test_impossible_codes_are_left():
    made = priors.create("empirical", dim=DIM)
    made.fit(np.repeat(ALL[[3, 12]], 20, 0))
    locked = np.zeros(DIM, bool)
    locked[0] = True
    assert (complete(made, ALL[12], locked, 0, draws=64).bits == ALL[12]).all()
    assert (climb(made, ALL[2], np.zeros(DIM, bool)) == ALL[3]).all()
    assert complete(made, ALL[5], ALL[15].astype(bool), 0).bits.tolist() == ALL[5].tolist()


def test_a_way_flips_what_differs_once_and_the_likeliest_first(prior):
    for using in (prior, None):
        codes = path(ALL[0], ALL[15], using)
        assert len(codes) == DIM + 1 and (np.diff(codes.sum(1, dtype=int)) == 1).all()
    codes = path(ALL[0], ALL[15], prior)
    options = ALL[0] ^ np.eye(DIM, dtype=np.uint8)
    assert prior.log_prob(codes[1:2])[0] == prior.log_prob(options).max()
    assert (path(ALL[3], ALL[3], prior) == ALL[3:4]).all()


def reader(exclusive, classes=3, dim=6):
    random = np.random.default_rng(1)
    return Reader(
        "labels", tuple("abc"), exclusive, random.normal(size=(dim, classes)), np.zeros(classes) - 1.0, 1.0, 9
    )


@pytest.mark.parametrize("more", [True, False])
def test_flips_of_an_attribute_are_the_fewest(more):
    probe = reader(exclusive=False)
    codes = np.array(list(np.ndindex(*(2,) * 6)), np.uint8)
    says = probe.probabilities(codes)[:, 0] > 0.5
    for code in codes[says != more]:
        got = fewest_flips(probe, code, 0, more, np.zeros(6, bool))
        fewest = (codes[says == more] != code).sum(1).min()
        assert (got != code).sum() == fewest and (probe.probabilities(got[None])[0, 0] > 0.5) == more


def test_flips_of_a_class_make_it_likelier_and_keep_what_is_locked():
    probe = reader(exclusive=True)
    locked = np.array([True, True, False, False, False, False])
    for code in np.array(list(np.ndindex(*(2,) * 6)), np.uint8):
        got = fewest_flips(probe, code, 1, True, locked)
        assert (got[:2] == code[:2]).all()
        before, after = probe.probabilities(np.stack([code, got]))[:, 1]
        assert after >= before and np.isclose(probe.probabilities(got[None]).sum(), 1)
    assert (fewest_flips(probe, got, 1, True, np.ones(6, bool)) == got).all()


def test_the_newest_request_of_a_page_makes_the_older_void():
    desk = Desk()
    old, other = desk.ticket("a"), desk.ticket("b")
    new = desk.ticket("a")
    with pytest.raises(Superseded):
        old.check()
    new.check()
    other.check()
    desk.close()
    for ticket in (new, other, desk.ticket("c")):
        with pytest.raises(Superseded):
            ticket.check()
    with pytest.raises(Busy):
        desk.submit(int)


def test_the_desk_does_one_thing_at_a_time_and_forgets_mistakes():
    desk, go = Desk(waiting=2), threading.Event()
    first, second = desk.submit(go.wait), desk.submit(lambda: 1 / 0)
    with pytest.raises(Busy):
        desk.submit(int)
    go.set()
    assert first.result(10)
    with pytest.raises(ZeroDivisionError):
        second.result(10)
    assert desk.submit(lambda: threading.current_thread().name).result(10).startswith("dmz-explore")
    desk.close()
