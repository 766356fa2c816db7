"""Guidance: the law of the two evaluations, where it acts, and what it refuses."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dmzcli.diffusion.schedule import alphas_bar
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode
from dmzcli.generation.guidance import Guidance
from dmzcli.generation.recipe import Recipe
from dmzcli.model.latents import ABSENT


@pytest.fixture(scope="module")
def nested(make_run):
    return make_run("nested", model__nested=True, diffusion__variance="learned-range")


@pytest.fixture
def model(nested):
    from dmzcli.runs import Run

    return Run(nested / "runs" / "nested").load_model(torch.device("cpu"))


def codes(model, count=6):
    return torch.randint(
        0, 2, (count, model.dim), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def at(model, t, count=6):
    x = torch.randn(count, *model.shape, generator=torch.Generator().manual_seed(1))
    return x, torch.full((count,), t)


@torch.no_grad()
def test_the_guided_mean_goes_on_along_the_line_and_the_variance_stays(model):
    bits, (x, t) = codes(model), at(model, 20)
    given, free = model.denoiser(bits)(x, t), model.denoiser(torch.full_like(bits, ABSENT))(x, t)
    assert not torch.equal(given, free)
    for weight in (0.0, 0.5, 1.0, 3.0):
        guided = Guidance(weight).denoiser(model, bits, "no")(x, t)
        mean = free[:, :1] + weight * (given - free)[:, :1]
        torch.testing.assert_close(guided[:, :1], mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(guided[:, 1:], given[:, 1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_it_acts_at_its_noise_levels_alone(model):
    signal = alphas_bar(model.config.diffusion)
    levels = np.sqrt((1 - signal) / signal)
    bits, plain = codes(model), model.denoiser(codes(model))
    low, high = float(levels[10]), float(levels[30])
    guided = Guidance(3.0, (low, high)).denoiser(model, bits, "no")
    for t in range(0, 50, 3):
        x, index = at(model, t)
        assert torch.equal(guided(x, index), plain(x, index)) == (not low < levels[t] <= high)


def test_one_timestep_for_all_is_embedded_once(model):
    bits, (x, _) = codes(model), at(model, 20)
    guided = Guidance(2.0).denoiser(model, bits, "no")
    with torch.no_grad():
        torch.testing.assert_close(
            guided(x, torch.tensor([20]).expand(6)), guided(x, torch.full((6,), 20)), atol=1e-5, rtol=1e-5
        )


def test_images_do_not_depend_on_the_batch(model):
    bits = codes(model).numpy()
    sampler = Recipe("ddim", 4).create(model.config.diffusion)
    guidance = Guidance(2.0)
    whole = decode(model, bits, sampler, range(6), 0, 6, guidance=guidance)
    parts = decode(model, bits, sampler, range(6), 0, 4, guidance=guidance)
    assert np.abs(whole.astype(int) - parts).max() <= 1  # of another batch's rounding
    assert not np.array_equal(whole, decode(model, bits, sampler, range(6), 0, 6))


@pytest.mark.parametrize("text", ["3", "3,1", "a,b", "-1,2", "nan,2", "1,2,3"])
def test_an_interval_is_two_noise_levels(text):
    with pytest.raises(UserError, match="--guidance-interval"):
        Recipe(guidance=2.0, guidance_interval=text).check()


def test_what_means_nothing_is_refused(tiny):
    with pytest.raises(UserError, match="means nothing without --guidance"):
        Recipe(guidance_interval="1,2").check()
    with pytest.raises(UserError, match="not finite"):
        Recipe(guidance=math.inf).check()
    with pytest.raises(UserError, match="--guidance needs a model whose bits may all be absent"):
        Recipe(guidance=2.0).guided(tiny())
    assert Recipe().guided(tiny()) is None


def test_recipes_without_it_say_what_they_said():
    assert not {"guidance", "guidance_interval"} & Recipe().facts().keys()
    facts = Recipe(guidance=2.0, guidance_interval="0.3,5").facts()
    assert (facts["guidance"], facts["guidance_interval"]) == (2.0, "0.3,5")


def test_commands_take_it_and_name_it(dmz, nested, isolated):
    import shutil

    shutil.copytree(nested / "runs", "runs")
    plain = dmz("sample", "bernoulli", "-n", "3", "--steps", "2", "--json").json
    guided = dmz(
        "sample",
        "bernoulli",
        "-n",
        "3",
        "--steps",
        "2",
        "--guidance",
        "3",
        "--guidance-interval",
        "0,9",
        "--json",
    ).json
    assert guided["guidance"] == 3 and "-w3-at-0-9-" in guided["samples"] and "guidance" not in plain
    images = [np.load(Path(facts["samples"]) / "samples.npz")["images"] for facts in (plain, guided)]
    assert not np.array_equal(*images)


def test_a_run_without_nested_bits_refuses_it(dmz, workshop):
    error, _ = dmz("sample", "bernoulli", "-n", "2", "--guidance", "2").mistake()
    assert "--guidance needs a model" in error
