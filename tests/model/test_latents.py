"""The contract of latent families, over every one of them that has bits."""

import ast
from pathlib import Path
from typing import get_args

import pytest
import torch

import dmzcli
from dmzcli.config import ModelConfig
from dmzcli.errors import UserError
from dmzcli.model import latents
from dmzcli.model.latents import Latent, Tokens

FAMILIES = [name for name in get_args(ModelConfig.model_fields["latent"].annotation) if name != "none"]
COUNT = 20_000


def latent(name, **settings):
    return latents.create(ModelConfig(latent=name, bits=8, **settings))


def logits_of(family, count=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *family.logits_shape, generator=generator)


def test_every_family_of_the_settings_is_there():
    assert FAMILIES and isinstance(latent("none"), Latent)


@pytest.mark.parametrize("name", FAMILIES)
def test_bits_stand_for_codes_exactly(name):
    family = latent(name)
    bits = torch.randint(0, 2, (50, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    # Codes far from all doubt have their own bits as the most probable ones.
    codes = family.codes(bits).float()
    assert torch.equal(family.bits(1e3 * codes.reshape(50, *family.logits_shape)), bits)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_hard_codes_are_those_of_the_most_probable_bits(name):
    family = latent(name)
    logits = logits_of(family, 100)
    assert torch.equal(family.hard(logits), family.codes(family.bits(logits)).to(logits.dtype))


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_have_their_probabilities(name):
    """A mean of N draws of a bit deviates from q by more than 4.5 √(q (1 − q) / N) once in 100,000 times."""
    family = latent(name)
    logits = logits_of(family)
    q = family.probabilities(logits)[0]
    uniform = torch.rand(COUNT, 8, generator=torch.Generator().manual_seed(2))
    drawn = family.draw(logits.expand(COUNT, *family.logits_shape), uniform)
    assert drawn.dtype == torch.uint8 and drawn.shape == (COUNT, 8)
    assert ((drawn.float().mean(0) - q).abs() < 4.5 * (q * (1 - q) / COUNT).sqrt()).all()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("tokens", ["single", "per-bit"])
def test_tokens_are_as_wide_as_they_say(name, tokens):
    family = latent(name, tokens=tokens, token_width=6)
    module = family.tokens()
    assert isinstance(module, Tokens)
    logits = logits_of(family, 3)
    noise = family.noise(torch.rand(3, *family.noise_shape, generator=torch.Generator().manual_seed(3)))
    out = module(family.relax(logits, noise))
    assert out.shape == (3, 1 if module.single else out.shape[1], module.width)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", FAMILIES)
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
