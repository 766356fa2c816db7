"""The contract of latent families, over every one of them that has bits."""

import ast
import itertools
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import dmzcli
from dmzcli.config import ModelConfig
from dmzcli.errors import UserError
from dmzcli.model import estimators, latents
from dmzcli.model.estimators import Estimator
from dmzcli.model.latents import Latent, Tokens
from dmzcli.model.temperature import temperature

FAMILIES = [name for name in get_args(ModelConfig.model_fields["latent"].annotation) if name != "none"]
ESTIMATORS = get_args(ModelConfig.model_fields["estimator"].annotation)
COUNT = 20_000
every_family = pytest.mark.parametrize("name", FAMILIES)
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)


def latent(name, **settings):
    return latents.create(ModelConfig(**{"latent": name, "bits": 8, "values": 4, **settings}))


def logits_of(family, count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *family.logits_shape, generator=generator)


def noise_of(family, count=1, seed=0):
    return family.noise(torch.rand(count, *family.noise_shape, generator=torch.Generator().manual_seed(seed)))


def test_every_family_of_the_settings_is_there():
    assert FAMILIES and isinstance(latent("none"), Latent)


def test_every_estimator_of_the_settings_is_there():
    assert len(ESTIMATORS) == 4 and all(isinstance(estimators.create(name), Estimator) for name in ESTIMATORS)


@every_family
@every_estimator
@pytest.mark.parametrize("tokens", ["single", "per-bit"])
def test_gradients_reach_every_variable(name, estimator, tokens):
    family = latent(name, estimator=estimator, tokens=tokens, token_width=6)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        module = family.tokens()
    logits = logits_of(family, 20).requires_grad_()
    out = module(family.relax(logits, noise_of(family, 20)))
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(5))).sum().backward()
    assert torch.isfinite(logits.grad).all()
    # Of every variable; an ordinal one's precision says nothing of the most probable level.
    assert (logits.grad.abs().sum((0, 2)) > 0).all()


@every_family
@every_estimator
def test_training_codes_are_those_of_evaluation_where_there_is_no_doubt(name, estimator):
    """Gumbel noise of a clamped uniform number lies between −3.9 and 16.2, so that it cannot bridge a gap of 60; soft
    codes are then within K e^{−39} of the corner."""
    family = latent(name, estimator=estimator)
    logits = 500 * logits_of(family, 200, seed=6)
    best, second = family.scores(logits).topk(2, dim=-1).values.unbind(-1)
    sure = best - second > 60
    assert sure.float().mean() > 0.3
    codes = family.relax(logits, noise_of(family, 200, seed=7))
    assert torch.allclose(codes[sure], family.hard(logits)[sure], atol=1e-6)


@every_family
@every_estimator
def test_codes_are_float32_in_bf16_training(name, estimator):
    """Sums of their gradients over the parts of a batch would round away what is small."""
    family = latent(name, estimator=estimator)
    with torch.autocast("cpu", torch.bfloat16):
        codes = family.relax(logits_of(family, 4).bfloat16(), noise_of(family, 4))
    assert codes.dtype == torch.float32


@every_family
@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name != "soft"])
def test_hard_estimators_give_codes_of_bits_exactly(name, estimator):
    """All but soft are corners in training too; straight-through up to the rounding of 1 + p − p."""
    family = latent(name, estimator=estimator)
    codes = family.relax(logits_of(family, 100), noise_of(family, 100))
    corner = torch.nn.functional.one_hot(codes.argmax(-1), codes.shape[-1]).to(codes.dtype)
    error = (codes - corner).abs().max()
    assert error <= 2**-23 if estimator == "straight-through" else error == 0


@every_family
@pytest.mark.parametrize("estimator", ["straight-through", "bernoulli-straight-through"])
def test_hard_codes_of_training_are_draws_from_q(name, estimator):
    """A mean of N draws of a value deviates from q by more than 4.9 √(q (1 − q) / N) once in a million times."""
    family = latent(name, estimator=estimator, temperature=0.3)
    logits = logits_of(family, seed=8)
    q = family.distribution(logits)[0].double()
    codes = family.relax(logits.expand(COUNT, *family.logits_shape), noise_of(family, COUNT, seed=9))
    deviation = (codes.double().mean(0) - q).abs()
    assert (deviation < 4.9 * (q * (1 - q) / COUNT).sqrt() + 1e-6).all()


@every_family
def test_the_slope_of_drawn_codes_is_that_of_their_probabilities(name):
    family = latent(name, estimator="bernoulli-straight-through", temperature=0.5)
    given = [logits_of(family, 10, seed=10).requires_grad_() for _ in range(2)]
    codes = family.relax(given[0], noise_of(family, 10)), (family.scores(given[1]) / 0.5).softmax(-1)
    weights = torch.randn(codes[0].shape, generator=torch.Generator().manual_seed(11))
    for each in codes:
        (each * weights).sum().backward()
    assert torch.equal(given[0].grad, given[1].grad)


def test_the_sign_of_the_log_odds_has_slope_one():
    family = latent("bernoulli", estimator="sign")
    logits = logits_of(family, 30).requires_grad_()
    first, second = family.relax(logits, noise_of(family, 30)).unbind(-1)
    log_odds = logits[..., 1] - logits[..., 0]
    assert torch.equal(second - first, log_odds.sign())
    (second - first).sum().backward()  # of s = sign(m), m = l_1 − l_0: ds/dl_1 = 1, ds/dl_0 = −1
    assert torch.equal(logits.grad, torch.tensor([-1.0, 1.0]).expand_as(logits))


def test_temperatures_go_from_the_first_to_the_last():
    settings = {"temperature": 2.0, "temperature_end": 0.5, "temperature_steps": 100}
    constant, linear, exponential = (
        [
            temperature(ModelConfig(**settings, temperature_schedule=schedule), step)
            for step in (0, 50, 100, 200)
        ]
        for schedule in ("constant", "linear", "exponential")
    )
    assert constant == [2.0] * 4
    assert linear == [2.0, 1.25, 0.5, 0.5]
    assert exponential == pytest.approx([2.0, 1.0, 0.5, 0.5])


@every_family
def test_bits_stand_for_codes_exactly(name):
    """Different bits are different codes, and of every variable each value is the most probable one of some logits."""
    family = latent(name)
    every = torch.tensor(list(itertools.product([0, 1], repeat=8)), dtype=torch.uint8)
    codes = family.codes(every)
    assert len(codes.flatten(1).unique(dim=0)) == 2**8
    found = family.codes(family.bits(3 * logits_of(family, 2000)))
    assert torch.equal(found.amax(0), codes.amax(0)) and (codes.amax(0) == 1).all()


@every_family
def test_the_hard_codes_are_those_of_the_most_probable_bits(name):
    family = latent(name)
    logits = logits_of(family, 100)
    assert torch.equal(family.hard(logits), family.codes(family.bits(logits)).to(logits.dtype))


@every_family
def test_draws_have_their_probabilities(name):
    """A mean of N draws of a bit deviates from q by more than 4.5 √(q (1 − q) / N) once in 100,000 times."""
    family = latent(name)
    logits = logits_of(family)
    q = family.probabilities(logits)[0]
    uniform = torch.rand(COUNT, 8, generator=torch.Generator().manual_seed(2))
    drawn = family.draw(logits.expand(COUNT, *family.logits_shape), uniform)
    assert drawn.dtype == torch.uint8 and drawn.shape == (COUNT, 8)
    assert ((drawn.float().mean(0) - q).abs() < 4.5 * (q * (1 - q) / COUNT).sqrt()).all()


@every_family
@pytest.mark.parametrize("tokens", ["single", "per-bit"])
def test_tokens_are_as_wide_as_they_say(name, tokens):
    family = latent(name, tokens=tokens, token_width=6)
    module = family.tokens()
    assert isinstance(module, Tokens)
    logits = logits_of(family, 3)
    out = module(family.relax(logits, noise_of(family, 3, seed=3)))
    assert out.shape == (3, 1 if module.single else out.shape[1], module.width)
    assert torch.isfinite(out).all()


@every_family
@pytest.mark.parametrize("values", [2, 16, 256])
def test_probabilities_of_bits_are_those_of_the_values_that_have_them(name, values):
    family = latent(name, values=values)
    logits = 2 * logits_of(family, 20)
    q, bits = family.distribution(logits).double(), family.probabilities(logits)
    assert bits.dtype == torch.float32 and bits.shape == (20, 8)
    for variable in range(family.variables):
        for place in range(family.patterns.shape[1]):
            having = torch.from_numpy(family.patterns[:, place] == 1)
            expected = q[:, variable, having].sum(-1)
            found = bits[:, variable * family.patterns.shape[1] + place]
            # Sums of up to 128 float32 numbers that add up to at most 1.
            assert torch.allclose(found.double(), expected, atol=128 * 2**-24)


def test_two_values_are_a_bit():
    """A categorical variable of two values is a Bernoulli bit, in all that is asked of it."""
    two, bit = latent("categorical", values=2), latent("bernoulli")
    logits, noise = logits_of(two, 50), noise_of(two, 50)
    uniform = torch.rand(50, 8, generator=torch.Generator().manual_seed(12))
    assert torch.equal(two.relax(logits, noise), bit.relax(logits, noise))
    assert torch.equal(two.bits(logits), bit.bits(logits))
    assert torch.allclose(two.probabilities(logits), bit.probabilities(logits))
    sure = (bit.probabilities(logits) - uniform).abs() > 1e-6  # the two count from opposite ends
    assert torch.equal(two.draw(logits, 1 - uniform)[sure], bit.draw(logits, uniform)[sure])


def test_neighboring_levels_differ_in_one_bit():
    patterns = latent("ordinal", values=256).patterns.astype(int)
    assert (np.abs(np.diff(patterns, axis=0)).sum(1) == 1).all() and len(np.unique(patterns, axis=0)) == 256


@pytest.mark.parametrize("values", [2, 16, 4096])
def test_the_most_probable_level_is_the_rounded_location(values):
    """Locations below K are known to K 2^−24, and tanh to a few roundings."""
    family = latent("ordinal", values=values, bits=12)
    logits = logits_of(family, 300)
    location = (values - 1) * (1 + logits[..., 0].tanh()) / 2
    level = family.hard(logits).argmax(-1)
    assert ((level - location).abs() <= 0.5 + values * 2**-22).all()


def test_ordinal_codes_are_rounded_with_slope_one():
    """FSQ: v is the level nearest to tanh(a), and dv/dtanh(a) = 1."""
    family = latent("ordinal", values=8, bits=9, estimator="sign")
    logits = logits_of(family, 40).requires_grad_()
    v = family.tokens()(family.relax(logits, noise_of(family, 40)))[:, 0]
    assert ((v - logits[..., 0].tanh()).abs() <= 1 / 7 + 1e-5).all()
    v.sum().backward()
    assert torch.allclose(logits.grad[..., 0], 1 - logits[..., 0].tanh() ** 2, atol=1e-6)


@every_family
def test_the_values_of_all_variables_are_the_codes(name):
    assert latent(name).cardinalities.prod() == 2**8


def test_without_a_latent_nothing_is_asked_of_it():
    family = latent("none")
    assert family.dim == 0 and family.tokens() is None
    with pytest.raises(UserError, match="has no bits"):
        family.bits(torch.zeros(1, 0))


def test_which_latent_it_is_is_asked_in_one_place():
    """Elsewhere the number of bits, or the latent itself, says what is to be done."""
    asking = set()
    root = Path(dmzcli.__file__).parent
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and "latent" in ast.unparse(node.left):
                asking.add(str(file.relative_to(root)))
    assert asking == {"config/sections.py"}
