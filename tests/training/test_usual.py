"""Pictures that no preset knows, on a CPU: settings that show something soon, and how long that takes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmzcli.config import Config, parse
from dmzcli.runs import Run
from dmzcli.system.progress import Silence
from dmzcli.training import usual


@pytest.mark.parametrize(("size", "levels"), [(64, 4), (32, 4), (28, 3), (8, 2), (16, 3), (25, 1), (256, 4)])
def test_every_size_has_settings_whose_lowest_level_has_four_pixels_or_more(size, levels):
    config = parse(usual.small(size), "the test").resolved(size, 3)
    assert len(config.model.multipliers) == levels and config.model.attention[-1] == size >> (levels - 1) >= 4


class Listener(Silence):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.mark.parametrize(
    ("seconds", "steps", "takes"),
    [(0.5, 3000, "25 min"), (60.0, 200, "3 h 20 min"), (0.001, 20_000, "20 s"), (0.37, 4000, "24 min")],
)
def test_the_steps_are_those_of_25_minutes(monkeypatch, seconds, steps, takes):
    monkeypatch.setattr(usual, "measure", lambda *a: {"seconds_per_1000_steps": 1000 * seconds})
    talk = Listener()
    config = parse(usual.small(8), "the test").resolved(8, 1)
    chosen, facts = usual.lasting(config, Run(Path("none")), "cpu", talk)
    assert facts["seconds_per_1000_steps"] == 1000 * seconds
    assert chosen.training.steps == steps and chosen.training.valid_every <= steps / 4
    assert f"about {takes} at" in talk.said[-1] and f"{steps:,} steps" in talk.said[-1]
    assert (
        chosen.experiment() == config.experiment()
    )  # so that the same run goes on wherever it is measured again


def test_what_could_not_be_measured_takes_the_fewest_steps(monkeypatch):
    """A step that is too slow to be measured in 20 s is no reason to take ten times as many as at 19 s."""
    monkeypatch.setattr(usual, "measure", lambda *a: {"why_not": "a step takes more than 20 seconds here"})
    talk, config = Listener(), parse(usual.small(8), "the test").resolved(8, 1)
    assert usual.lasting(config, Run(Path("none")), "cpu", talk)[0].training.steps == 200
    assert (
        talk.said[-1]
        == "200 steps of 64 images, how long is not known: a step takes more than 20 seconds here"
    )


def test_hours_say_how_long(monkeypatch):
    monkeypatch.setattr(usual, "measure", lambda *a: {"seconds_per_1000_steps": 1000.0})
    config = parse(usual.small(8), "the test").resolved(8, 1)
    assert usual.lasting(config, Run(Path("none")), "cpu", Listener(), 2.0)[0].training.steps == 7200


@pytest.mark.parametrize(("size", "batch"), [(8, 64), (64, 64), (128, 16), (256, 4), (1024, 4)])
def test_large_images_come_few_at_a_time(size, batch):
    assert usual.small(size)["training"]["batch_size"] == batch


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    Path("cats").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(f"cats/{i}.png")
    return "cats"


def test_a_folder_is_trained_small_and_the_same_command_goes_on(dmz, pictures, monkeypatch):
    """The second time another machine would allow other steps: the run has its own."""
    monkeypatch.setattr(usual, "measure", lambda *a: {"seconds_per_1000_steps": 1e6})
    monkeypatch.setattr(usual, "FEWEST", 4)
    monkeypatch.setattr(usual, "MINUTES", 0.1)
    command = ("train", pictures, "--device", "cpu", "--max-hours", "0")
    first = dmz(*command)
    assert first.code == 0 and "no preset is for these pictures" in first.err
    settings = json.loads(Path("runs/cats/config.json").read_text())
    assert settings["model"]["channels"] == 32 and settings["data"]["channels"] == 3
    monkeypatch.setattr(usual, "measure", None)
    again = dmz(*command)
    assert again.code == 0 and "resuming runs/cats at step 1" in again.err
    assert json.loads(Path("runs/cats/config.json").read_text()) == settings
    monkeypatch.setattr(usual, "measure", lambda *a: {"seconds_per_1000_steps": 1e6})
    with_set = ("train", pictures, "--bits", "8", "--device", "cpu", "--max-hours", "0")
    own = [dmz(*with_set)]
    monkeypatch.setattr(usual, "measure", lambda *a: {"seconds_per_1000_steps": 1.0})  # in a quiet moment
    own.append(dmz(*with_set))
    assert [end.code for end in own] == [0, 0] and "at step 2 of 4" in own[1].out
    given = dmz("train", pictures, "--device", "cpu", "--max-steps", "1", "--run", "own")
    assert given.code == 0 and "measured" not in given.err


def test_a_pack_says_how_its_pictures_were_fitted(dmz, pictures):
    assert (
        dmz(
            "data", "prepare", pictures, "--out", "p.h5", "--set", "data.size=4", "--set", "data.fit=crop"
        ).code
        == 0
    )
    ended = dmz("train", "p.h5", "--device", "cpu", "--max-steps", "1", "--run", "r")
    assert ended.code == 0, ended.err
    assert json.loads(Path("r/config.json").read_text())["data"]["fit"] == "crop"


def test_a_presets_colors_are_those_of_its_own_images(dmz, pictures):
    """A gray preset for colored pictures: they stay colored, unless gray is asked for."""
    from dmzcli.runs.plan import plan

    assert plan(pictures, "digits", {}, []).config.data.channels is None
    assert plan("digits", "digits", {}, []).config.data.channels == 1
    assert plan(pictures, "digits", {}, ["data.channels=1"]).config.data.channels == 1
    assert plan(pictures, None, {}, [], usual=usual.small(8)).config.model.channels == 32
    assert plan(pictures, None, {}, []).config.model == Config().model
