"""All settings are listed with their defaults and meanings; how images are read can be said without a model."""

import json
import re

import pytest

from dmzcli.config import DataConfig, assignments, data_settings, list_all_settings, parse, presets
from dmzcli.errors import UserError


def test_all_settings_are_listed():
    facts, text = list_all_settings()
    assert set(facts["presets"]) == set(presets())
    for key, setting in facts["settings"].items():
        assert f"{key} = " in text
        assert setting["help"] or key.startswith("training.")
    json.dumps(facts, allow_nan=False)


def test_how_images_are_read_asks_no_unet():
    """28 cannot be halved three times, and 128 has no resolution of 8 below it in four levels: no matter here."""
    data = data_settings("cifar10", ["data.size=28", "data.fit=resize"])
    assert (data.dataset, data.size, data.fit, data.channels) == ("cifar10", 28, "resize", 3)
    data = data_settings("celeba", ["data.size=128"])
    assert (data.size, data.fit) == (128, "d2c")


def test_a_dataset_without_a_preset_is_read_as_it_is_and_flags_lose_to_settings():
    assert data_settings("pets") == DataConfig(dataset="pets")
    data = data_settings("pets", ["data.size=16"], {"size": 8, "channels": 1, "data_dir": None})
    assert (data.size, data.channels, data.data_dir) == (16, 1, None)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("model.bits=3", "--set model.bits=3 is no setting of how images are read"),
        ("data.sise=3", "unknown setting 'data.sise'"),
        ("data.size", "--set data.size has no '='"),
        ("data.size=2", "data.size = 2: expected at least 4"),
        ("data.fit=d3c", "data.fit = 'd3c'"),
    ],
)
def test_settings_that_are_none_of_the_data(setting, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}") as caught:
        data_settings("celeba", [setting])
    assert caught.value.hint


def test_the_settings_of_a_preset_are_listed_as_it_has_them():
    facts, text = list_all_settings("cifar10")
    assert facts["preset"] == "cifar10"
    assert facts["settings"]["model.channels"]["value"] == 128
    assert facts["settings"]["model.channels"]["default"] == 64
    assert "model.channels = 128 (64)" in text and "model.heads = 4 " in text
    with pytest.raises(UserError, match=r"^unknown preset 'cifar'"):
        list_all_settings("cifar")


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 5000, "9" * 5000])
def test_what_json_cannot_take_is_text(text):
    with pytest.raises(UserError, match=r"^model\.bits = "):
        parse(assignments([f"model.bits={text}"]), "test")


def test_what_is_wrong_with_a_preset_names_the_preset(monkeypatch):
    monkeypatch.setitem(presets(), "broken", {"data": {"size": 2}})
    with pytest.raises(UserError, match=r"\(in preset broken\)$"):
        data_settings("broken")
    with pytest.raises(UserError, match=r"\(in flags and --set\)$"):
        data_settings("broken", ["data.size=3"])
