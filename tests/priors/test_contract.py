"""Laws that every registered kind obeys. A new kind is one entry of SMALL, or none."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy.stats import chi2

import priors

KINDS = priors.available()
EXACT = [kind for kind in KINDS if priors.describe(kind)["exact"]]
# Ways of drawing bits among which a kind chooses before it draws any: by default there is one.
WAYS = {"mixture": 12, "chow-liu-mixture": 8, "autoregressive": 2, "masked-diffusion": 3, "empirical": 2**5}
LEARNING = [kind for kind in KINDS if kind != "uniform"]
SMALL: dict[str, dict[str, object]] = {
    "autoregressive": {"members": 2, "hidden": 32, "channels": 8, "convolutions": 1, "epochs": 10},
    "masked-diffusion": {"hidden": 32, "layers": 1, "epochs": 10, "steps": 3, "orders": 3},
    "perceptron": {"hidden": 32, "layers": 1, "epochs": 10},
    "mixture": {"components": 6, "restarts": 2, "steps": 30},
    "chow-liu-mixture": {"components": 4, "restarts": 2, "steps": 20, "smoothing": 10.0},
}


def codes(dim: int) -> np.ndarray:
    """All 2^dim codes."""
    return np.array(list(itertools.product([0, 1], repeat=dim)), np.uint8)


def groups(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Codes around three centers: dependent bits, all values of each bit present."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).random((3, dim)) < 0.5
    return (centers[rng.integers(0, 3, n)] ^ (rng.random((n, dim)) < 0.15)).astype(np.uint8)


def one_hot(labels: np.ndarray, width: int) -> np.ndarray:
    return np.eye(width, dtype=np.uint8)[labels]


def fitted(kind: str, bits: np.ndarray, given: np.ndarray | None = None, seed: int = 0) -> priors.Prior:
    prior = priors.create(kind, dim=bits.shape[1], seed=seed, **SMALL.get(kind, {}))
    prior.fit(bits, given=given)
    return prior


@pytest.mark.parametrize("kind", EXACT)
def test_probabilities_over_all_codes_sum_to_one(kind: str) -> None:
    prior = fitted(kind, groups(300, 10))
    assert np.exp(prior.log_prob(codes(10))).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("width", [3, 12])
def test_conditional_probabilities_sum_to_one_for_every_given(kind: str, width: int) -> None:
    rng = np.random.default_rng(1)
    given = one_hot(rng.integers(0, 3, 300), 3) if width == 3 else rng.integers(0, 2, (300, width), np.uint8)
    prior = fitted(kind, groups(300, 6), given)
    unseen = np.ones(width, np.uint8)  # for labels: a value of given that no code had
    for value in (given[0], given[1], unseen):
        log_p = prior.log_prob(codes(6), np.tile(value, (64, 1)))
        assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)


def test_every_kind_here_is_exact() -> None:
    assert EXACT == KINDS


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("conditional", [False, True])
def test_samples_match_log_prob(kind: str, conditional: bool) -> None:
    """Pearson's statistic over 2^5 cells is chi-square with 31 degrees of freedom; cells of fewer than 5
    expected samples are pooled. A correct sampler fails at the level 1e-6."""
    n, bits = 20_000, groups(400, 5)
    given = one_hot(np.random.default_rng(2).integers(0, 2, 400), 2) if conditional else None
    prior = fitted(kind, bits, given)
    asked = None if given is None else np.tile(given[0], (n, 1))
    samples = prior.sample(n, seed=3, given=asked)
    seen = np.bincount(samples @ (1 << np.arange(4, -1, -1)), minlength=32)
    expected = n * np.exp(prior.log_prob(codes(5), None if asked is None else asked[:32]))
    rare = expected < 5
    seen, expected = (np.append(x[~rare], x[rare].sum()) for x in (seen, expected))
    keep = expected > 0
    statistic = np.sum((seen[keep] - expected[keep]) ** 2 / expected[keep])
    assert statistic < chi2.isf(1e-6, keep.sum() - 1)


@pytest.mark.parametrize("kind", LEARNING)
@pytest.mark.parametrize("labels", [True, False])
def test_conditional_matches_that_of_a_known_joint(kind: str, labels: bool) -> None:
    """Four values of g, given as labels or as two bits; p(b_i = 1 | g) is known and the bits independent.
    A kind of P parameters is about P / (2 N) nats away; 0.02 allows several hundred at N = 6,000."""
    rng = np.random.default_rng(4)
    table = np.array([[0.9, 0.1, 0.8, 0.5], [0.1, 0.8, 0.7, 0.6], [0.8, 0.3, 0.2, 0.5], [0.3, 0.9, 0.1, 0.6]])
    if not labels:  # log-odds linear in the two bits of g
        table = 1 / (1 + np.exp(-(2 * codes(2) @ rng.normal(size=(2, 4)) + rng.normal(size=4))))
    value = rng.integers(0, 4, 6000)
    given = one_hot(value, 4) if labels else codes(2)[value]
    bits = (rng.random((6000, 4)) < table[value]).astype(np.uint8)
    prior = fitted(kind, bits, given)
    for v in range(4):
        asked = one_hot(np.full(16, v), 4) if labels else np.tile(codes(2)[v], (16, 1))
        truth = np.where(codes(4) == 1, table[v], 1 - table[v]).prod(1)
        divergence = np.sum(truth * (np.log(truth) - prior.log_prob(codes(4), asked)))
        assert divergence < (0.06 if kind == "masked-diffusion" else 0.02)  # three steps for four bits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conditional", [False, True])
def test_saving_and_loading_changes_nothing(kind: str, conditional: bool, tmp_path: object) -> None:
    bits = groups(200, 9)
    given = one_hot(np.random.default_rng(5).integers(0, 3, 200), 3) if conditional else None
    prior = fitted(kind, bits, given)
    prior.save(f"{tmp_path}/prior", metadata={"dataset": "groups", "n": 3})
    again = priors.load(f"{tmp_path}/prior")
    assert (again.kind, again.dim, again.given_dim) == (kind, 9, prior.given_dim)
    assert again.options == prior.options and again.report == prior.report
    assert again.metadata == {"dataset": "groups", "n": 3}
    np.testing.assert_array_equal(again.log_prob(bits, given), prior.log_prob(bits, given))
    np.testing.assert_array_equal(again.sample(200, 7, given), prior.sample(200, 7, given))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_fixes_everything_and_no_global_state_is_touched(kind: str) -> None:
    torch = pytest.importorskip("torch")
    bits = groups(150, 8)
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), torch.get_num_threads()
    one, two = fitted(kind, bits, seed=6), fitted(kind, bits, seed=6)
    samples = one.sample(50, seed=1)
    np.testing.assert_array_equal(one.log_prob(bits), two.log_prob(bits))
    np.testing.assert_array_equal(samples, two.sample(50, seed=1))
    assert (samples != one.sample(50, seed=2)).any()
    assert (np.random.get_state()[1] == before[0]).all()
    assert (torch.get_rng_state() == before[1]).all() and torch.get_num_threads() == before[2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conditional", [False, True])
def test_fewer_samples_are_a_prefix_of_more(kind: str, conditional: bool) -> None:
    bits = groups(120, 7)
    given = one_hot(np.random.default_rng(5).integers(0, 3, 120), 3) if conditional else None
    prior = fitted(kind, bits, given)
    rows = min(prior.sample_rows, 1000)
    asked = None if given is None else np.resize(given, (rows + 40, 3))
    many = prior.sample(rows + 40, seed=8, given=asked)
    for m in (1, 39, rows + 1):
        few = prior.sample(m, seed=8, given=None if asked is None else asked[:m])
        np.testing.assert_array_equal(few, many[:m])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 2, 3, 1024])
def test_any_number_of_bits(kind: str, dim: int) -> None:
    bits = groups(40, dim)
    prior = priors.create(
        kind, dim=dim, **SMALL.get(kind, {}) | ({"components": 2} if "mixture" in kind else {})
    )
    prior.fit(bits)
    samples = prior.sample(3)
    assert samples.shape == (3, dim) and samples.dtype == np.uint8
    log_p = prior.log_prob(bits)
    assert log_p.shape == (40,) and log_p.dtype == np.float64 and np.isfinite(log_p).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conditional", [False, True])
def test_constant_and_duplicate_bits_are_no_accident(kind: str, conditional: bool) -> None:
    bits = groups(80, 6)
    bits[:, 1], bits[:, 2], bits[:, 4] = 0, 1, bits[:, 3]
    given = np.ones((80, 2), np.uint8) if conditional else None
    prior = fitted(kind, bits, given)
    held_out = groups(30, 6, seed=9)  # has what the fitted codes never had
    with np.errstate(all="raise"):
        log_p = prior.log_prob(held_out, None if given is None else given[:30])
    assert np.isfinite(log_p).all() and (log_p < 0).all()
    assert np.isfinite(prior.report.valid_nats)


@pytest.mark.parametrize("kind", KINDS)
def test_two_rows_are_enough(kind: str) -> None:
    assert np.isfinite(fitted(kind, groups(2, 4)).log_prob(codes(4))).all()


def bits_entropy(samples: np.ndarray) -> float:
    """Entropy in bits of the codes of samples, as often as they occur."""
    _, counts = np.unique(samples, axis=0, return_counts=True)
    share = counts / counts.sum()
    return float(-np.sum(share * np.log2(share)))


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_grows_with_temperature(kind: str) -> None:
    """The plug-in entropy of 8,000 samples over 32 cells has a standard error of at most
    sd(log2 p) / √8000, below 0.03 where cells are as unlike as 2⁻⁸ to 1/2; at T = 100 it is within 0.02 of 5."""
    prior = fitted(kind, groups(400, 5))
    entropies = [
        bits_entropy(prior.sample(8000, seed=3, temperature=t)) for t in (1e-6, 0.3, 0.6, 1.0, 2.0, 100.0)
    ]
    assert all(low < high + 0.03 for low, high in itertools.pairwise(entropies)), entropies
    assert entropies[-1] > 4.98
    if kind != "uniform":
        assert entropies[0] < entropies[3] - 0.1


@pytest.mark.parametrize("kind", LEARNING)
def test_toward_temperature_zero_each_way_gives_one_code_and_ways_keep_their_shares(kind: str) -> None:
    prior = fitted(kind, groups(400, 5))
    width = prior._width()
    u = np.random.default_rng(0).random((4000, width), dtype=np.float32)
    cold = prior._sample(u, None, 1e-6)
    assert len(np.unique(cold, axis=0)) <= WAYS.get(kind, 1)
    other = np.random.default_rng(1).random((4000, width), dtype=np.float32)
    if kind in WAYS:
        other[:, 0] = u[:, 0]  # the number that chooses the way
    if kind in ("mixture", "chow-liu-mixture", "empirical"):  # greedy codes of orders may well agree
        assert len(np.unique(cold, axis=0)) > 1
    np.testing.assert_array_equal(prior._sample(other, None, 1e-6), cold)


@pytest.mark.parametrize("kind", ["mixture", "chow-liu-mixture", "empirical"])
def test_temperature_leaves_the_shares_of_groups(kind: str) -> None:
    """A fifth of the codes are near all ones: that share stays at any temperature, also where it is told by
    given bits. Of 4,000 samples it is known to 0.0063; five times that, and 0.02 for the fit."""
    rng = np.random.default_rng(0)
    rare = rng.random(4000) < 0.2
    bits = (rng.random((4000, 8)) < np.where(rare[:, None], 0.95, 0.05)).astype(np.uint8)
    for given in (None, np.ones((4000, 1), np.uint8)):
        prior = fitted(kind, bits, given)
        for t in (0.05, 1.0):
            share = (prior.sample(4000, seed=2, given=given, temperature=t).mean(1) > 0.5).mean()
            assert share == pytest.approx(0.2, abs=0.052)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0}, "temperature is 0; expected a finite number above 0"),
        ({"temperature": -1.0}, "temperature is -1.0; expected a finite number above 0"),
        ({"temperature": float("nan")}, "temperature is nan; expected a finite number above 0"),
        ({"temperature": float("inf")}, "temperature is inf; expected a finite number above 0"),
        ({"temperature": 1e-9}, "temperature is 1e-09; expected at least 1e-06"),
        ({"temperature": "1"}, "temperature is '1'; expected a finite number above 0"),
        ({"seed": -1}, "seed is -1; expected at least 0"),
        ({"seed": 2**64}, "seed is 18446744073709551616; expected at most 18446744073709551615"),
        ({"seed": 1.0}, "seed is 1.0; expected an integer"),
        ({"n": 0}, "n is 0; expected at least 1"),
        ({"n": -3}, "n is -3; expected at least 1"),
        ({"n": 10**12}, "n is 1000000000000; expected at most 1000000000"),
        ({"n": True}, "n is True; expected an integer"),
        ({"n": np.arange(2)}, r"n is array\(\[0, 1\]\); expected an integer"),
    ],
)
def test_what_sampling_is_asked_for_is_checked_before_any_work(
    kind: str, arguments: dict[str, object], message: str
) -> None:
    """Even before the prior is known to be fitted."""
    prior = priors.create(kind, dim=4)
    with pytest.raises(priors.PriorError, match=f"^{message}$"):
        prior.sample(**{"n": 5, **arguments})
    if "seed" in arguments:
        with pytest.raises(priors.PriorError, match=f"^{message}$"):
            priors.create(kind, dim=4, **arguments)


@pytest.mark.parametrize("kind", LEARNING)
def test_temperature_sharpens_and_flattens(kind: str) -> None:
    bits = (np.random.default_rng(3).random((300, 6)) < 0.25).astype(np.uint8)
    prior = fitted(kind, bits)
    cold, warm, hot = (prior.sample(2000, seed=1, temperature=t).mean() for t in (0.3, 1.0, 50.0))
    assert cold < warm + 0.02 < hot + 0.02
    assert kind == "empirical" or abs(hot - 0.5) < 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_report_is_consistent_and_progress_runs_from_zero_to_one(kind: str) -> None:
    bits, valid, seen = groups(200, 8), groups(50, 8, seed=1), []
    prior = priors.create(kind, dim=8, **SMALL.get(kind, {}))
    report = prior.fit(bits, valid=valid, progress=lambda done, message: seen.append((done, message)))
    facts = json.loads(json.dumps(report.as_dict()))
    assert (facts["n_train"], facts["n_valid"], facts["valid_from"]) == (200, 50, "given")
    assert facts["valid_bits_per_code"] == pytest.approx(-prior.log_prob(valid).mean() / np.log(2))
    assert facts["valid_bits_per_bit"] == pytest.approx(facts["valid_bits_per_code"] / 8)
    assert facts["gain_bits_per_code"] == pytest.approx(
        facts["independent_bits_per_code"] - facts["valid_bits_per_code"]
    )
    done = [fraction for fraction, _ in seen]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_and_its_report_print_as_one_line(kind: str) -> None:
    prior = priors.create(kind, dim=4, **SMALL.get(kind, {}))
    name = type(prior).__name__
    assert repr(prior) == f"{name} prior of 4 bits, not fitted"
    report = prior.fit(groups(60, 4), given=one_hot(np.arange(60) % 2, 2))
    assert repr(prior) == f"{name} prior of 4 bits given 2 bits, fitted"
    bound = "" if prior.exact else "at most "
    assert repr(report).startswith(
        f"report of {kind}: {bound}{report.valid_bits_per_code:.2f} bits per code on 6 "
    )
    side = "fewer" if report.gain_bits_per_code >= 0 else "more"
    assert repr(report).endswith(f"{abs(report.gain_bits_per_code):.2f} {side} than independent bits")


@pytest.mark.parametrize("kind", KINDS)
def test_bad_codes_are_refused_by_name(kind: str) -> None:
    prior = fitted(kind, groups(60, 4))
    good = groups(5, 4)
    bad = [
        (good.astype(np.float64), "bits has dtype float64; expected uint8"),
        (np.full((5, 4), np.nan), "bits has dtype float64 with NaN"),
        (good.astype(np.int64), "bits has dtype int64"),
        (good + 1, "bits holds the value 2; expected only 0 and 1"),
        (good[:, :3], "bits has 3 columns; expected 4"),
        (good[0], "bits has shape"),
        (good.tolist(), "bits is a list"),
        (good[:0], "bits has 0 rows; expected at least 1"),
    ]
    for value, message in bad:
        with pytest.raises(priors.PriorError, match=message.replace("(", r"\(")):
            prior.log_prob(value)
        with pytest.raises(priors.PriorError, match="bits "):
            prior.fit(value)
    with pytest.raises(priors.PriorError, match="bits has 1 rows; expected at least 2"):
        prior.fit(good[:1])
