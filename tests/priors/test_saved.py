"""Priors that earlier code saved: they load, and say and draw what they did then.

``saved/`` holds one tiny prior of each kind, and one with two given bits, made by the code of commit 67c146e. Next to
each stand the log-probabilities of all 32 codes (given ``0, 1`` where bits are given) and 32 samples, seed 7, at
temperatures 0.8 and 1, from that code, but for two changes since. At temperature 0.8 mixtures choose a component as
fitted. The masked diffusion draws in one of a few fixed orders, and its ``log_prob`` is that of what it draws; the
lower bound that it gave before is kept as ``bound``. Kinds that came later are of their first version.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import priors
from priors.registry import kind_class

SAVED = sorted((Path(__file__).parent / "saved").iterdir())
LATER = ("perceptron",)
CODES = np.array(list(itertools.product([0, 1], repeat=5)), np.uint8)


@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: folder.name)
def test_a_prior_of_earlier_code_loads_and_says_the_same(folder: Path) -> None:
    """Sums in another order move a log-probability by about 1e-6, float32 networks included."""
    expected = json.loads((folder / "expected.json").read_text())
    prior = priors.load(folder)
    assert prior.kind == folder.name.removesuffix("-given")
    assert prior.metadata == {"made by": "its first version" if prior.kind in LATER else "67c146e"}
    assert prior.report is not None and prior.report.n_train + prior.report.n_valid in (40, 300)
    given = np.tile(np.array([[0, 1]], np.uint8), (32, 1)) if prior.given_dim else None
    np.testing.assert_allclose(prior.log_prob(CODES, given), expected["log_prob"], atol=1e-5)
    for name, temperature in (("samples", 0.8), ("samples at 1", 1.0)):
        samples = prior.sample(32, seed=7, given=given, temperature=temperature)
        assert ["".join(map(str, row)) for row in samples] == expected[name]
    if "bound" in expected:  # Jensen: the logarithm of a mean is at least the mean of logarithms
        assert (prior.log_prob(CODES, given) >= np.array(expected["bound"]) - 1e-5).all()


def test_a_prior_with_a_negative_seed_still_loads(tmp_path: Path) -> None:
    """Seeds were taken modulo 2⁶⁴ before they were refused outside of it."""
    prior = priors.create("bernoulli", dim=5, seed=2**64 - 3)
    prior.fit(CODES)
    prior.save(tmp_path)
    header = json.loads((tmp_path / "prior.json").read_text())
    (tmp_path / "prior.json").write_text(json.dumps({**header, "seed": -3}))
    assert priors.load(tmp_path).seed == 2**64 - 3


def test_every_kind_has_a_saved_prior_with_and_without_given_bits() -> None:
    kinds = {kind for kind in priors.available() if kind_class(kind).__module__.startswith("priors.")}
    assert {folder.name for folder in SAVED} == kinds | {f"{kind}-given" for kind in kinds - {"uniform"}}


def test_a_prior_knows_by_which_law_it_was_saved(tmp_path: Path) -> None:
    """A masked diffusion of earlier code draws other codes today, and its report is of its own time."""
    folder = Path(__file__).parent / "saved" / "masked-diffusion"
    earlier = priors.load(folder)
    assert (earlier.saved_law, earlier.law) == (1, 2)
    earlier.save(tmp_path)
    assert priors.load(tmp_path).saved_law == 2
    assert {priors.load(other).saved_law for other in SAVED if "masked" not in other.name} == {1}
