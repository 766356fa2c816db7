"""Evaluating a pair: references beside translations, on training pairs and on held-out ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dmzcli.data import load_pairs

FAST = ("--steps", "2", "--device", "cpu", "--count", "24", "--json")


def values(card, split, method):
    return {score["metric"]: score["value"] for score in card["scores"][split][method]}


def test_a_card_on_both_splits(dmz, paired, tiny_extractor):
    card = dmz("evaluate", "--pair", "digits", "--draws", "2", "--features", tiny_extractor, *FAST).json
    assert card["format"] == "dmz-pair-evaluation" and card["splits"] == {"train": 24, "test": 24}
    methods = [
        "translated",
        "the target's reconstruction",
        "random photos of the class",
        "nearest training pairs' photos",
    ]
    for split in ("train", "test"):
        assert list(card["scores"][split]) == methods
        own = values(card, split, "translated")
        assert {
            "mse",
            "mse-best",
            "distance-tiny",
            "distance-tiny-best",
            "diversity-tiny",
            "fid-tiny",
        } <= set(own)
        assert own["distance-tiny-best"] <= own["distance-tiny"] and own["diversity-mse"] > 0
        assert list(card["differences"][split]) == methods[1:]
    saved = json.loads(Path(card["card"]).read_text())
    assert saved["scores"] == card["scores"] and Path(card["card"]).parent == Path("runs/digits-B/evaluation")
    assert all(Path(file).exists() for file in card["grids"].values())
    # By hand, of the archive that the translations left.
    with np.load(Path(card["translations"]["test"]) / "translations.npz") as archive:
        error = (archive["images"].astype(float) - archive["targets"][:, None]) / 255
    assert values(card, "test", "translated")["mse"] == pytest.approx(np.square(error).mean(), rel=1e-5)
    again = dmz("evaluate", "--pair", "digits", "--draws", "2", "--features", tiny_extractor, *FAST).json
    assert again["scores"] == card["scores"] and again["card"] == card["card"]


def test_the_rounded_map_has_the_diversity_of_noise_alone(dmz, paired, tiny_extractor):
    """Of the paper's map all draws have one code; those of a distribution differ in bits as well."""
    common = ("evaluate", "--pair", "digits", "--draws", "3", "--features", tiny_extractor, *FAST)
    drawn, rounded = dmz(*common).json, dmz(*common, "--round").json
    assert rounded["temperature"] == 1e-6
    bits = {}
    for name, card in (("drawn", drawn), ("rounded", rounded)):
        with np.load(Path(card["translations"]["test"]) / "translations.npz") as archive:
            bits[name] = archive["bits"]
    assert (bits["rounded"] == bits["rounded"][:, :1]).all()
    assert not (bits["drawn"] == bits["drawn"][:, :1]).all()


def test_without_a_network_pixels_are_compared(dmz, paired, tmp_path):
    """A set without labels: no classifier can be trained on it, and the card says so."""
    plain = tmp_path / "plain"
    for split in ("train", "val", "test"):
        (plain / split).mkdir(parents=True)
        for number, file in enumerate(sorted((paired / split).rglob("*.png"))):
            shutil.copy(file, plain / split / f"{number:04d}.png")
    card = dmz("evaluate", "--pair", "digits", "--draws", "2", "--against", plain, *FAST).json
    assert "has no labels" in card["absent"]["features"] and card["features"] is None
    assert {"mse", "mse-best", "diversity-mse"} == set(values(card, "test", "translated"))
    assert "random photos" in card["scores"]["test"]
    assert load_pairs(str(plain)).b.identity == card["dataset"]  # the transfer to another set


def test_mistakes(dmz, paired):
    def refused(words, *arguments):
        error, _ = dmz("evaluate", *arguments).mistake()
        assert words in error, error

    refused("--draws means nothing without --pair", "--draws", "2")
    refused("--run means nothing with --pair", "--pair", "digits", "--run", "runs/digits-A")
    refused("--temperature means nothing with --round", "--pair", "digits", "--round", "--temperature", "2")
    refused("has no map B-to-A", "--pair", "digits", "--direction", "B-to-A")
    refused("holds no pairs", "--pair", "digits", "--against", "fashion-mnist")
