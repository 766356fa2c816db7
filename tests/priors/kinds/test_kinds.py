"""What single kinds promise beyond the contract."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import priors
from priors.kinds.categorical import group
from priors.parts import regression
from priors.parts.numerics import sigmoid


def two_groups(n: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    p = np.where(rng.integers(0, 2, n)[:, None] == 0, 0.1, 0.85)
    return (rng.random((n, dim)) < p).astype(np.uint8)


def test_bernoulli_in_closed_form() -> None:
    """(n_i + a) / (N + 2 a) with a = 1."""
    bits = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.uint8)
    prior = priors.create("bernoulli", dim=2, smoothing=1.0)
    prior.fit(bits, valid=bits)
    p = np.array([4, 2]) / 6
    assert prior.log_prob(bits[:1])[0] == pytest.approx(np.log(p[0]) + np.log(1 - p[1]))


def test_regression_agrees_with_sklearn() -> None:
    rng = np.random.default_rng(0)
    given = rng.integers(0, 2, (2000, 5), np.uint8)
    logits = given @ rng.normal(size=5) * 2 - 1
    bits = (rng.random(2000) < 1 / (1 + np.exp(-logits))).astype(np.uint8)[:, None]
    ours = regression.fit(given, lambda rows: bits[rows], sigmoid, 0.25, np.zeros(1), 1e-3, steps=2000)
    theirs = LogisticRegression(C=1e3, tol=1e-8, max_iter=1000).fit(given, bits[:, 0])
    np.testing.assert_allclose(ours[1:, 0], theirs.coef_[0], atol=0.02)
    assert ours[0, 0] == pytest.approx(theirs.intercept_[0], abs=0.02)


@pytest.mark.parametrize("width", [1, 3, 4])
@pytest.mark.parametrize("grouping", ["adjacent", "information"])
def test_blocks_hold_every_bit_once_and_decode_what_they_encode(width: int, grouping: str) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (50, 10), np.uint8)
    information = np.random.default_rng(1).random((10, 10))
    blocks = group(information + information.T, width, grouping)
    assert sorted(b for b in blocks.bits.ravel() if b < 10) == list(range(10))
    np.testing.assert_array_equal(blocks.decode(blocks.encode(bits)), bits)
    table = blocks.independent(np.full(10, 0.3))
    np.testing.assert_allclose(table.sum(1), 1)


def test_blocks_by_information_join_bits_that_belong_together() -> None:
    """Bits i and i + 4 are copies; adjacent blocks of two miss it, grouped ones take each pair."""
    half = np.random.default_rng(0).integers(0, 2, (3000, 4), np.uint8)
    prior = priors.create("categorical", dim=8, block=2)
    report = prior.fit(np.hstack([half, half]))
    assert report.chosen["grouping"] == "information"
    assert report.valid_bits_per_code == pytest.approx(4, abs=0.05)


def variables(n: int, seed: int = 0) -> np.ndarray:
    """Codes of three variables of 2, 3 and 1 bits, each with a law of its own, independent of each other."""
    rng, laws = np.random.default_rng(seed), np.random.default_rng(7)
    values = [rng.choice(2**b, n, p=laws.dirichlet(np.full(2**b, 0.5))) for b in (2, 3, 1)]
    return np.hstack(
        [v[:, None] >> np.arange(b)[::-1] & 1 for v, b in zip(values, (2, 3, 1), strict=True)]
    ).astype(np.uint8)


def test_blocks_follow_the_variables_that_codes_are_made_of() -> None:
    """The likelihood is that of the variables' own frequencies, which no cut into equal blocks reaches."""
    prior = priors.create("categorical", dim=6, groups=(2, 3, 1), smoothing=1e-6)
    report = prior.fit(variables(4000), valid=variables(4000, seed=1))
    assert report.chosen["grouping"] == "groups" and report.chosen["block"] == 3
    train, test, expected = variables(4000), variables(1000, seed=2), 0.0
    for columns in (slice(0, 2), slice(2, 5), slice(5, 6)):
        weights = 1 << np.arange(columns.stop - columns.start)[::-1]
        counts = np.bincount(train[:, columns] @ weights, minlength=2 * weights[0])
        expected += np.log(counts[test[:, columns] @ weights] / 4000).mean()
    assert prior.log_prob(test).mean() == pytest.approx(expected, abs=1e-6)
    every = (np.arange(64)[:, None] >> np.arange(6)[::-1] & 1).astype(np.uint8)
    assert np.exp(prior.log_prob(every)).sum() == pytest.approx(1)


def test_blocks_of_variables_alone_when_asked_for(tmp_path: Path) -> None:
    prior = priors.create("categorical", dim=6, groups=(2, 2, 2), grouping="groups")
    report = prior.fit(variables(500))
    assert report.chosen["grouping"] == "groups" and report.chosen["block"] == 2
    prior.save(tmp_path / "p")
    again = priors.load(tmp_path / "p")
    assert again.options.groups == (2, 2, 2)
    np.testing.assert_array_equal(again.sample(50, seed=1), prior.sample(50, seed=1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"groups": (2, 2)}, "the groups have 4 bits, not 6"),
        ({"grouping": "groups"}, "the grouping 'groups' has no groups"),
        ({"grouping": "groups", "groups": (3, 3), "block": 2}, "has blocks of its own"),
    ],
)
def test_groups_that_cannot_be_are_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(priors.PriorError, match=sentence):
        priors.create("categorical", dim=6, **options).fit(variables(50))


def test_mixtures_find_groups_that_single_bits_hide() -> None:
    """Two products of known bits, p(b) = (p_1(b) + p_2(b)) / 2: the likelihood of the truth is reached."""
    prior = priors.create("mixture", dim=8, components=2, restarts=2)
    prior.fit(two_groups(6000, 8), valid=two_groups(1000, 8, seed=1))
    test = two_groups(4000, 8, seed=2)
    ones = test.sum(1)
    truth = np.logaddexp(*[np.log(0.5) + ones * np.log(p) + (8 - ones) * np.log1p(-p) for p in (0.1, 0.85)])
    assert prior.log_prob(test).mean() == pytest.approx(truth.mean(), abs=0.01)


@pytest.mark.parametrize("kind", ["mixture", "chow-liu-mixture"])
def test_the_average_of_runs_is_no_worse_than_runs_are_on_average(kind: str) -> None:
    """Jensen: log mean_r p_r(b) ≥ mean_r log p_r(b), on any codes."""
    bits, valid = two_groups(800, 6), two_groups(200, 6, seed=1)
    runs = {}
    for average in (True, False):
        prior = priors.create(
            kind, dim=6, components=3, smoothing=1.0, restarts=3, average=average, tolerance=0.0
        )
        report = prior.fit(bits, valid=valid)
        runs[average] = report.valid_nats, report.chosen["runs"]
    assert runs[True][1] >= 2 and runs[False][1] == 1
    assert runs[True][0] > runs[False][0] - 0.05


def test_empirical_equals_the_kernel_density_by_hand() -> None:
    bits = np.array([[0, 0, 1], [1, 1, 1]], np.uint8)
    prior = priors.create("empirical", dim=3, flip=0.1)
    prior.fit(bits, valid=bits)
    asked = np.array([[0, 1, 1]], np.uint8)
    assert prior.log_prob(asked)[0] == pytest.approx(np.log(0.1 * 0.9**2))
    samples = priors.create("empirical", dim=3, flip=1e-6)
    samples.fit(bits, valid=bits)
    assert {tuple(row) for row in samples.sample(100)} == {(0, 0, 1), (1, 1, 1)}


def interrupted(kind: str, stop_at: float, folder: str, bits: np.ndarray, **options: object) -> None:
    """A fit that dies once so much is done."""

    def die(done: float, message: str) -> None:
        if done > stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        priors.create(kind, dim=bits.shape[1], **options).fit(bits, progress=die, checkpoint=folder)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mixture", {"components": 4, "restarts": 4}),
        ("chow-liu-mixture", {"components": 3, "restarts": 4}),
        ("autoregressive", {"hidden": 16, "channels": 4, "members": 2, "epochs": 20}),
        ("masked-diffusion", {"hidden": 16, "layers": 1, "epochs": 20, "steps": 4}),
        ("perceptron", {"hidden": 16, "layers": 1, "epochs": 20}),
    ],
)
def test_a_killed_fit_continues_to_the_same_prior(
    kind: str, options: dict[str, object], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("priors.parts.training.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("priors.parts.training.FEWEST", 5)
    bits, folder = two_groups(300, 8), f"{tmp_path}/checkpoint"
    whole = priors.create(kind, dim=8, **options)
    whole.fit(bits)
    interrupted(kind, 0.7, folder, bits, **options)
    resumed = priors.create(kind, dim=8, **options)
    first: list[float] = []
    resumed.fit(bits, checkpoint=folder, progress=lambda done, message: first.append(done))
    np.testing.assert_array_equal(resumed.log_prob(bits), whole.log_prob(bits))
    assert first[1] > 0.2  # it did not begin anew
    other = priors.create(kind, dim=8, seed=1, **options)
    other.fit(bits, checkpoint=folder)  # another fit ignores the checkpoint
    fresh = priors.create(kind, dim=8, seed=1, **options)
    fresh.fit(bits)
    np.testing.assert_array_equal(other.log_prob(bits), fresh.log_prob(bits))


def codes(dim: int) -> np.ndarray:
    return np.array(list(itertools.product([0, 1], repeat=dim)), np.uint8)


def test_masked_diffusion_with_a_step_per_bit_learns_the_distribution() -> None:
    """Samples of a fitted network against the codes it was fitted to: total variation over 2^4 cells.
    5,000 samples alone give about 0.02; the network may add as much again."""
    bits = two_groups(4000, 4)
    prior = priors.create("masked-diffusion", dim=4, hidden=64, layers=1, epochs=40, steps=4)
    prior.fit(bits)
    weights = 1 << np.arange(3, -1, -1)
    seen, truth = (np.bincount(x @ weights, minlength=16) / len(x) for x in (prior.sample(5000), bits))
    assert 0.5 * np.abs(seen - truth).sum() < 0.06


def test_a_fit_goes_on_from_a_loss_that_was_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON has no infinity and no NaN: a checkpoint holds null in their place."""
    monkeypatch.setattr("priors.parts.training.SAVE_SECONDS", 0.0)
    monkeypatch.setattr("priors.parts.training.FEWEST", 5)
    options = {"hidden": 16, "layers": 1, "epochs": 20, "steps": 4}
    interrupted("masked-diffusion", 0.5, str(tmp_path), two_groups(300, 8), **options)
    (file,) = tmp_path.rglob("checkpoint.json")
    text = json.loads(file.read_text())
    holder = next(value for value in (text, *text.values()) if isinstance(value, dict) and "least" in value)
    holder["least"] = holder["mark"] = None
    file.write_text(json.dumps(text))
    prior = priors.create("masked-diffusion", dim=8, **options)
    first: list[float] = []
    report = prior.fit(
        two_groups(300, 8), checkpoint=tmp_path, progress=lambda done, message: first.append(done)
    )
    assert np.isfinite(report.valid_nats) and first[1] > 0.2
