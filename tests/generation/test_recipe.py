"""A recipe is one object: its facts on disk, its options on the command line, its sampler."""

import dataclasses
import inspect
import json

import pytest

from dmzcli.commands import evaluate, options, sample
from dmzcli.config import DiffusionConfig
from dmzcli.diffusion import samplers
from dmzcli.diffusion.spacings import spacings
from dmzcli.errors import UserError
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.samples import Samples


def test_facts_keep_the_keys_of_files_written_before():
    """Cards of reconstructions hold a recipe, and plan.json holds one among the samples' own keys, in this order."""
    keys = ["sampler", "steps", "spacing", "eta", "threshold", "percentile", "precision"]
    assert list(Recipe().facts()) == keys
    samples = Samples("m", "chow-liu", "p", 7, Recipe("ddim", 3, "ddim"), seed=1, temperature=0.5)
    facts = json.dumps(samples.facts())
    assert facts == (
        '{"model": "m", "prior": "chow-liu", "prior_hash": "p", "count": 7, "seed": 1, "sampler": "ddim", '
        '"steps": 3, "spacing": "ddim", "eta": 0.0, "temperature": 0.5, "threshold": "clip", '
        '"percentile": 0.995, "precision": "no"}'
    )


def test_every_field_is_an_option_with_its_default():
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert set(options.RECIPE) == fields - {"timesteps", "tuned_by"}  # those are a run's, or the library's
    for command in (sample.sample, evaluate.evaluate):
        parameters = inspect.signature(command).parameters
        assert "recipe" not in parameters
        own = {"timesteps": None, "tuned_by": None}
        assert {name: parameters[name].default for name in options.RECIPE} | own == vars(Recipe())


def test_a_command_may_take_some_of_the_options_with_other_defaults():
    @options.recipe_options("steps", "eta", steps=10)
    def command(recipe: Recipe = Recipe(), other: int = 3) -> None:  # noqa: B008
        taken.append((recipe, other))

    taken: list = []
    assert list(inspect.signature(command).parameters) == ["steps", "eta", "other"]
    command(steps=10, eta=0.5, other=4)
    assert taken == [(Recipe(steps=10, eta=0.5), 4)]


def test_a_recipe_makes_its_sampler():
    config = DiffusionConfig(prediction="v")
    resolved = Recipe("ddim", 4).resolved(config)
    assert resolved.spacing == samplers.sampler_class("ddim").usual_spacing(config)
    assert Recipe("ddim", 4, "quadratic").resolved(config).spacing == "quadratic"
    made = Recipe("ddim", 4, "leading", eta=0.5, threshold="none").create(config)
    assert (made.name, len(made.process), made.eta, made.threshold) == ("ddim", 4, 0.5, None)
    assert (
        Recipe("ddim", 4).create(config).process.timesteps == resolved.create(config).process.timesteps
    ).all()
    for wrong, says in ((Recipe("dimd"), "sampler 'dimd'"), (Recipe(spacing="x"), "spacing 'x'")):
        with pytest.raises(UserError, match=f"unknown {says}"):
            wrong.create(config)


@pytest.mark.parametrize(("slowness", "chosen"), [(16.0, "no"), (0.5, "bf16"), (float("inf"), "no")])
def test_auto_is_what_a_convolution_without_gradients_shows(tiny, monkeypatch, slowness, chosen):
    import torch

    from dmzcli.system import precision

    seen = []
    monkeypatch.setattr(precision, "bf16_slowness", lambda *shape: seen.append(shape) or slowness)
    cpu, config = torch.device("cpu"), tiny()
    assert Recipe(precision="auto").on(cpu, config).precision == chosen
    assert seen[0][0] == cpu and seen[0][2] == 8 and seen[0][-1] is False
    assert Recipe(precision="bf16").on(cpu, config) == Recipe(precision="bf16")
    with pytest.raises(UserError, match="unknown precision 'fp8'"):
        Recipe(precision="fp8").on(cpu, config)
    with pytest.raises(UserError, match="unknown sampler 'dimd'"):
        Recipe("dimd").on(cpu, config)


def test_the_command_lists_what_the_registries_hold(dmz):
    """All names, each with the line that its registry has of it."""
    ended = dmz("sample", "--samplers", "--json").json
    assert ended["samplers"] == {name: samplers.sampler_class(name).summary for name in samplers.available()}
    assert sorted(ended["spacings"]) == sorted([*spacings(), "tuned"]) and "dynamic" in ended["thresholds"]
    text = dmz("sample", "--samplers").out
    for group, entries in ended.items():
        assert f"{group}:" in text
        for name, summary in entries.items():
            assert f"    {name}: {summary}\n" in text
