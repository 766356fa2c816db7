"""Registries: what is no entry is refused, and other packages bring theirs by entry points."""

import re
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion import samplers, spacings
from dmzcli.diffusion.spacings import SPACINGS, Spacing, spaced_timesteps
from dmzcli.errors import UserError
from dmzcli.system import registry


class Foreign(samplers.ddim.DDIM):
    """Another package's sampler."""

    name = "foreign"
    summary = "a test"


FOREIGN = Spacing("thirds", "a test", lambda process, steps: np.linspace(0, len(process) / 3, steps))
WORDS = Spacing("words", "a test", lambda process, steps: np.arange(steps)[::-1])


@pytest.fixture
def install(monkeypatch):
    """Adds entry points, as installed packages would, for one test."""
    for known in (samplers.SAMPLERS, SPACINGS):
        monkeypatch.setattr(known, "entries", dict(known.entries))
    points: list[metadata.EntryPoint] = []

    def entry_points(**query):
        return metadata.EntryPoints(points).select(**query)

    monkeypatch.setattr(registry.metadata, "entry_points", entry_points)
    return lambda group, name, value: points.append(metadata.EntryPoint(name, value, group))


def test_a_sampler_and_a_spacing_of_other_packages_are_found(install):
    install("dmz.samplers", "foreign", f"{__name__}:Foreign")
    install("dmz.spacings", "thirds", f"{__name__}:FOREIGN")
    assert "foreign" in samplers.available() and "thirds" in spacings.spacings()
    config = DiffusionConfig()
    assert type(samplers.create("foreign", config, 4, "thirds")) is Foreign
    np.testing.assert_array_equal(spaced_timesteps(config, 4, "thirds"), [0, 111, 222, 333])
    assert samplers.SAMPLERS.summaries()["foreign"] == "a test"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no_such_package:Sampler", "No module named"),
        (f"{__name__}:FOREIGN", "Spacing"),
        ("dmzcli.diffusion.samplers.ddim:DDIM", "it is named 'ddim'"),
    ],
)
def test_a_broken_package_breaks_its_own_name_alone(install, value, says):
    install("dmz.samplers", "broken", value)
    with pytest.raises(UserError, match=r"^the sampler 'broken' cannot be loaded from ") as error:
        samplers.create("broken", DiffusionConfig(), 4)
    assert says in error.value.message
    assert "cannot be loaded" in samplers.SAMPLERS.summaries()["broken"]
    assert samplers.create("ddim", DiffusionConfig(), 4).name == "ddim"


def test_a_name_of_two_packages_and_a_built_in_one(install):
    install("dmz.samplers", "foreign", f"{__name__}:Foreign")
    install("dmz.samplers", "foreign", "elsewhere:Foreign")
    install("dmz.samplers", "ddim", f"{__name__}:Foreign")
    with pytest.raises(UserError, match=r"^the sampler 'foreign' comes from several packages: "):
        samplers.sampler_class("foreign")
    assert samplers.sampler_class("ddim") is samplers.ddim.DDIM


def test_the_examples_of_the_manual_run(install):
    """The code blocks of dmzcli/diffusion/README.md, as they stand there."""
    text = (Path(samplers.__file__).parents[1] / "README.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(block, names)
    assert names["image"].shape == (2, 3, 8, 8) and names["image"].abs().max() <= 1
    np.testing.assert_array_equal(spaced_timesteps(DiffusionConfig(), 3, "halves"), [250, 500, 999])
    for name in (*samplers.available(), *spacings.spacings()):
        assert f"`{name}`" in text or name in ("resampled", "halves")


def test_a_spacing_that_gives_no_timesteps_is_named(install):
    install("dmz.spacings", "words", f"{__name__}:WORDS")
    with pytest.raises(UserError, match=r"^the spacing 'words' gave .* not 4 ascending timesteps$"):
        spaced_timesteps(DiffusionConfig(), 4, "words")


@pytest.mark.parametrize(
    ("name", "summary", "says"),
    [
        ("uniform", "a test", "a spacing named 'uniform' is registered already"),
        ("two words", "a test", "expected lower case without spaces"),
        (None, "a test", "no class attribute 'name'"),
        ("new", "", "expected one line of text"),
        ("new", "two\nlines", "expected one line of text"),
    ],
)
def test_bad_spacings_are_refused_at_registration(install, name, summary, says):
    before = spacings.spacings()
    with pytest.raises(ValueError, match=says):
        spacings.register(name, summary)(lambda process, steps: np.arange(steps))
    assert spacings.spacings() == before
    for entry in ("uniform", Spacing("new", "no function", 3)):
        with pytest.raises(ValueError, match="no Spacing"):
            SPACINGS.add(entry)
