"""Bits that may be absent: what is kept, how often, and what the denoiser sees of it."""

import copy
import itertools

import numpy as np
import pytest
import torch

from dmzcli.config import ModelConfig, parse
from dmzcli.errors import UserError
from dmzcli.model import latents
from dmzcli.model.autoencoder import build
from dmzcli.model.latents import ABSENT
from dmzcli.training.draws import draw, prefixes

FAMILIES = ["bernoulli", "categorical", "ordinal"]


def family(name="bernoulli", **settings):
    return latents.create(
        ModelConfig(**{"latent": name, "bits": 8, "values": 4, "nested": True, "token_width": 6, **settings})
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prefix_of_codes_is_the_code_of_a_prefix_of_bits(name):
    latent = family(name)
    bits = torch.randint(0, 2, (50, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    width = 8 // latent.variables
    prefix = torch.arange(50) % 9
    masked = bits.clone()
    masked[torch.arange(8) >= prefix[:, None]] = ABSENT
    assert torch.equal(latent.kept(latent.codes(bits), prefix), latent.codes(masked))
    present = latent.codes(masked).sum(-1)  # a variable is there as a whole or not at all
    assert torch.equal(present.sum(-1), torch.div(prefix, width, rounding_mode="floor"))


@pytest.mark.parametrize("name", FAMILIES)
def test_all_bits_kept_changes_nothing(name):
    latent = family(name)
    logits = torch.randn(20, *latent.logits_shape, generator=torch.Generator().manual_seed(1))
    codes = latent.relax(logits, latent.noise(torch.rand(20, *latent.noise_shape)))
    assert torch.equal(latent.kept(codes, torch.full((20,), 8)), codes)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("tokens", ["single", "per-bit"])
def test_absence_is_a_state_of_its_own(name, tokens):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        latent = family(name, tokens=tokens)
        module = latent.tokens()
    bits = torch.zeros(3, 8, dtype=torch.uint8)
    bits[1, 5], bits[2, 5] = 1, ABSENT
    codes = latent.codes(bits).float()
    unsure = codes[:1].clone()
    variable = 5 // (8 // latent.variables)
    unsure[:, variable] = 1 / latent.values  # any value: no absence
    zero, one, absent, any_value = module(torch.cat([codes, unsure])).detach()
    for a, b in itertools.combinations((zero, one, absent, any_value), 2):
        assert not torch.allclose(a, b, atol=1e-4)
    if tokens == "per-bit":  # and the other variables' tokens are what they were
        others = torch.arange(latent.variables) != variable
        torch.testing.assert_close(zero[others], absent[others])
        torch.testing.assert_close(absent[variable], module.absent[variable].detach())


def test_a_model_that_is_not_nested_has_the_weights_that_it_had(tiny):
    plain, nested = build(tiny()), build(tiny(model__nested=True))
    assert plain.tokens.width == 16 and nested.tokens.width == 24
    assert set(plain.state_dict()) == set(nested.state_dict())  # of a single token


def test_nested_bits_need_bits():
    with pytest.raises(UserError, match=r"model\.nested"):
        parse({"model": {"latent": "none", "nested": True}}, "a test")


@pytest.mark.parametrize(
    ("law", "dim", "counts"),
    [("powers", 8, [1, 2, 4, 8]), ("powers", 10, [1, 2, 4, 8, 10]), ("uniform", 5, range(1, 6))],
)
def test_prefixes_follow_their_law(tiny, law, dim, counts):
    """Binomial counts of 40,000 draws: four standard deviations are 0.01 of all at most."""
    config = tiny(model__nested=True, model__bits=dim, training__prefix=law, training__unconditional=0.25)
    generator = torch.Generator().manual_seed(0)
    drawn = prefixes(config, torch.rand(40_000, generator=generator), torch.rand(40_000, generator=generator))
    found, times = np.unique(drawn.numpy(), return_counts=True)
    assert found.tolist() == [0, *counts]
    expected = [0.25, *(0.75 / len(counts) for _ in counts)]
    assert times / 40_000 == pytest.approx(expected, abs=0.01)


def test_prefixes_are_of_whole_variables(tiny):
    config = tiny(model__nested=True, model__bits=12, model__latent="categorical", model__values=8)
    generator = torch.Generator().manual_seed(0)
    drawn = prefixes(config, torch.rand(5000, generator=generator), torch.rand(5000, generator=generator))
    assert set(drawn.tolist()) == {0, 3, 6, 12}


def test_a_step_draws_them_after_all_else(tiny):
    plain = draw(tiny(), 6, torch.device("cpu"), "step", 0, 3)
    nested = draw(tiny(model__nested=True), 6, torch.device("cpu"), "step", 0, 3)
    assert plain.prefix is None and nested.prefix.shape == (6,)
    for name in ("index", "noise", "codes", "flip"):
        assert torch.equal(getattr(plain, name), getattr(nested, name))
    assert torch.equal(nested.part(1, 2).prefix, nested.prefix[3:])


def test_bits_that_are_absent_have_no_gradient(tiny):
    model = build(tiny(model__nested=True))
    with torch.no_grad():  # the last layers start at zero, through which nothing would come back
        for parameter in model.unet.parameters():
            parameter.add_(0.02 * torch.ones_like(parameter))
    x = torch.rand(4, *model.shape, generator=torch.Generator().manual_seed(0))
    logits = model.logits(x).detach().requires_grad_()
    noise = model.latent.noise(torch.rand(4, *model.latent.noise_shape))
    codes = model.latent.kept(model.latent.relax(logits, noise), torch.tensor([0, 3, 5, 8]))
    model.backbone(x, torch.tensor([5, 9, 20, 40]), model.context(codes)).square().sum().backward()
    there = (logits.grad.abs().sum(-1) > 0).int()
    assert there.sum(-1).tolist() == [0, 3, 5, 8]
    assert [row[:k].all().item() for row, k in zip(there, (0, 3, 5, 8), strict=True)] == [True] * 4


def test_training_resumes_bit_for_bit(tiny, few, isolated):
    from pathlib import Path

    from dmzcli.runs import Run
    from dmzcli.training import train

    config = tiny(model__nested=True)
    shorter = config.model_copy(update={"training": config.training.model_copy(update={"steps": 8})})
    train(config, few, Run(Path("whole")), "cpu")
    train(shorter, few, Run(Path("parts")), "cpu")
    train(config, few, Run(Path("parts")), "cpu")
    assert Run(Path("whole")).weights.read_bytes()[-1000:] == Run(Path("parts")).weights.read_bytes()[-1000:]
    there, here = (
        Run(Path(name)).load_model(torch.device("cpu")).state_dict() for name in ("whole", "parts")
    )
    assert all(torch.equal(there[name], here[name]) for name in there)
    assert copy.deepcopy(config) == Run(Path("whole")).config
