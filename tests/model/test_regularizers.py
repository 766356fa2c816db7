"""Regularizers: numbers of a batch's codes, from 0 to 1, that their own gradient makes smaller."""

import math

import pytest
import torch

from dmzcli.config import ModelConfig, TrainingConfig
from dmzcli.model import latents, regularizers
from dmzcli.model.regularizers import REGULARIZERS

FAMILIES = ("bernoulli", "categorical", "ordinal")
every_family = pytest.mark.parametrize("name", FAMILIES)
every_regularizer = pytest.mark.parametrize("kind", REGULARIZERS)


def latent(name, **settings):
    return latents.create(ModelConfig(latent=name, bits=8, values=4, **settings))


def logits_of(family, count=64, seed=0, shift=0.0):
    """Random logits, all alike shifted: their codes are far from even."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.randn(family.logits_shape, generator=generator)
    return torch.randn(count, *family.logits_shape, generator=generator) + shift * fixed


def far(family, bits):
    """Scores that leave no doubt of bits, as the logits of a family whose scores they are."""
    return 100 * family.codes(bits).float()


def test_each_weight_is_a_setting_that_is_off_by_default():
    assert regularizers.create(TrainingConfig()) == {}
    for name, kind in REGULARIZERS.items():
        ((found, (weight, made)),) = regularizers.create(TrainingConfig(**{name: 0.25})).items()
        assert (found, weight, type(made)) == (name, 0.25, kind)


@every_family
@every_regularizer
def test_descending_a_regularizer_makes_it_smaller(name, kind):
    family, regularizer = latent(name), REGULARIZERS[kind]()
    logits = logits_of(family, shift=3.0).requires_grad_()
    before = regularizer(family, logits)
    assert 0 <= before.item() <= 1
    (gradient,) = torch.autograd.grad(before, logits)
    assert torch.isfinite(gradient).all() and gradient.any()
    step = 1e-2 * gradient / gradient.norm()
    assert regularizer(family, (logits - step).detach()) < before


def test_entropy_is_that_of_the_batch():
    """A bit that is 1 in a quarter of the images, beside seven that are even: H(1/4) = 0.8113 bits."""
    family = latent("bernoulli")
    bits = torch.tensor([[0, 1] * 4, [0, 0] * 4, [0, 1] * 4, [1, 0] + [0] * 6])
    bits[:, 1:] = torch.tensor([[0], [1], [0], [1]])
    value = REGULARIZERS["entropy"]()(family, far(family, bits))
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert value.item() == pytest.approx((1 - quarter) / 8, abs=1e-6)


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_entropy_is_one_where_every_code_is_the_same(name):
    family = latent(name)
    value = REGULARIZERS["entropy"]()(family, far(family, torch.zeros(5, 8)))
    assert value.item() == pytest.approx(1, abs=1e-6)


def test_decorrelation_is_the_mean_squared_correlation():
    """All 16 codes of four bits, each bit twice: of the 56 ordered pairs 8 are copies, with ρ = 1 up to
    (1 + ε / v)^−2 with v = 1/4 and ε = 10^−4, and the others are independent."""
    family = latent("bernoulli")
    half = torch.tensor([[i >> k & 1 for k in range(4)] for i in range(16)])
    value = REGULARIZERS["decorrelation"]()(family, far(family, torch.cat([half, half], 1)))
    assert value.item() == pytest.approx(8 / 56 * (1 + 4e-4) ** -2, rel=1e-5)


def test_one_bit_has_nothing_to_be_correlated_with():
    family = latents.create(ModelConfig(bits=1))
    assert REGULARIZERS["decorrelation"]()(family, logits_of(family)).item() == 0


def test_they_are_refused_where_there_is_no_code(tiny):
    from dmzcli.errors import UserError

    with pytest.raises(UserError, match=r"^training.entropy is of the code, and the model has none"):
        tiny(model__latent="none", training__entropy=0.1)


@every_regularizer
def test_training_with_it_is_logged_and_makes_it_smaller(tiny, few, tmp_path, kind):
    from dmzcli.runs import Run
    from dmzcli.training import train

    config = tiny(**{f"training__{kind}": 10.0}, training__steps=30, training__learning_rate=1e-2)
    train(config, few, Run(tmp_path / "run"), "cpu")
    rows = [row[kind] for row in Run(tmp_path / "run").read_metrics() if kind in row]
    assert len(rows) == 15 and rows[-1] < 0.8 * rows[0]
