"""How even steps are, and ``dmz interpolate``."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmzcli.errors import UserError
from dmzcli.evaluation.distances import mse
from dmzcli.evaluation.interpolation import FADE, JUMP
from dmzcli.evaluation.pairs import Pairs
from dmzcli.evaluation.smoothness import cross_fade, measure_steps, steps_in, unevenness

FAST = ("--steps", "3", "--frames", "5", "--device", "cpu")
RNG = np.random.default_rng(0)


# Scores -------------------------------------------------------------------------------------------------------------


def test_the_score_of_even_steps_of_one_step_and_of_none():
    steps = np.array([[2.0, 2, 2, 2], [0, 0, 8, 0], [0, 0, 0, 0], [1, 2, 3, 2]])
    assert unevenness(steps).tolist() == [1, 4, 1, 1.5]


def test_a_cross_fade_is_even_in_pixels_and_has_the_ends():
    """From black to white in 5 steps of 51 gray levels, without rounding."""
    black, white = np.zeros((2, 4, 4, 1), np.uint8), np.full((2, 4, 4, 1), 255, np.uint8)
    strips = cross_fade(black, white, 6)
    assert strips[0, :, 0, 0, 0].tolist() == [0, 51, 102, 153, 204, 255]
    steps = measure_steps(mse)(strips)
    assert steps.shape == (2, 5) and np.allclose(steps, 0.04) and np.allclose(unevenness(steps), 1)


def test_steps_in_features_are_distances_of_neighbors(few, tiny_extractor, device):
    """The tiny extractor's features are the means of quarters, in [0, 1]: a gray step of 51 is one of 0.2 in all 4."""
    measure, facts = steps_in("tiny", 16, few, device)
    strips = (51 * np.array([0, 1, 3, 3], np.uint8))[None, :, None, None, None] * np.ones(
        (1, 1, 8, 8, 1), np.uint8
    )
    assert np.allclose(measure(strips), [[0.4, 0.8, 0]]) and facts["name"] == "tiny" and facts["sha256"]


def test_features_that_cannot_be_had(few, device):
    with pytest.raises(UserError, match="no LPIPS: not defined below 16 pixels"):
        steps_in("lpips", 8, few, device)
    with pytest.raises(UserError, match="--weights means nothing to lpips"):
        steps_in("lpips", 32, few, device, Path("x"))
    with pytest.raises(UserError, match="needs the run's dataset"):
        steps_in("classifier", 8, None, device)


def test_pairs_are_of_the_split_and_fewer_are_the_first_of_more(few):
    five, two = Pairs.drawn(few, "test", 5, 1), Pairs.drawn(few, "test", 2, 1)
    assert five.names[:2] == two.names and (five.first[:2] == two.first).all()
    rows = [int(name.split()[1]) for pair in five.names for name in pair]
    assert len(set(rows)) == 10 and set(rows) <= set(few.rows("test").tolist())
    with pytest.raises(UserError, match="40 test images, too few for 21 pairs"):
        Pairs.drawn(few, "test", 21, 0)
    with pytest.raises(UserError, match="has no image 160"):
        Pairs.of_rows(few, [(0, 160)])


# The command --------------------------------------------------------------------------------------------------------


def test_the_command_writes_strips_and_a_card(dmz, workshop, tiny_extractor):
    words = (
        "interpolate",
        "-n",
        "3",
        "--order",
        "given,greedy",
        "--prior",
        "bernoulli",
        "--features",
        "tiny",
    )
    ended = dmz(*words, *FAST, "--json")
    assert ended.code == 0, ended.err
    card = ended.json
    ways = ["given", "greedy", FADE, JUMP]
    assert list(card["scores"]) == ways and card["orders"] == ["given", "greedy"]
    for way in ways:
        values = card["values"][way]
        assert len(values) == 3 and all(1 - 1e-9 <= value <= 4 + 1e-9 for value in values)  # 1 to F − 1
        assert card["scores"][way]["value"] == pytest.approx(np.mean(values))
    paired = card["differences"]["greedy − all at once"]
    apart = np.subtract(card["values"]["greedy"], card["values"][JUMP])
    assert paired["value"] == pytest.approx(apart.mean())
    assert paired["error"] == pytest.approx(apart.std(ddof=1) / np.sqrt(3))
    assert set(card["surprise"]) == {"given", "greedy", JUMP} and card["surprise"][JUMP]["value"] == 0
    assert card["prior"]["kind"] == "bernoulli" and card["extractor"]["name"] == "tiny"
    assert json.loads(Path(card["card"]).read_text(encoding="utf-8")) == card
    assert [Path(file).name for file in card["strips"]] == [f"pair-00{i}.png" for i in range(3)]
    # Five rows (the pair, two orders, two controls) of 48 pixels and 18 of text; five frames.
    assert Image.open(card["strips"][0]).size == (5 * 9 * 6 + 4, 5 * 66 + 2)
    text = dmz(*words, *FAST).out
    assert "cross-fade" in text and "one by one, greedy" in text and "bits of surprise" in text


def test_pairs_by_position(dmz, workshop):
    card = dmz("interpolate", "--pairs", "7:1203,5:9", *FAST, "--features", "none", "--json").json
    assert card["pairs"] == [["image 7", "image 1203"], ["image 5", "image 9"]] and card["split"] is None
    assert card["scores"] == {} and card["extractor"] is None and card["prior"] is None
    assert len(card["flips"]) == 2 and card["end_mse"] > 0


def test_two_pictures_need_no_dataset_for_a_strip(dmz, run, digits):
    for name, row in (("a.png", 3), ("b.png", 8)):
        Image.fromarray(digits.images[row, ..., 0]).save(name)
    settings = json.loads(run.settings.read_text())
    settings["data"]["dataset"] = "pictures"
    run.settings.write_text(json.dumps(settings))
    ended = dmz("interpolate", "a.png", "b.png", *FAST, "--out", "ab", "--json")
    assert ended.code == 0, ended.err
    assert "no score: unknown dataset 'pictures'" in ended.err
    assert ended.json["scores"] == {} and sorted(p.name for p in Path("ab").iterdir()) == [
        *("card.json", "pair-000.png")
    ]
    assert "unknown dataset" in dmz("interpolate", "a.png", "b.png", "--features", "classifier").mistake()[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.png"], "1 picture given, expected two"),
        (["a.png", "b.png", "c.png"], "3 pictures given, expected two"),
        (["a.png", "nothere.png"], "nothere.png"),
        (["a.png", "a.png", "--features", "none"], "are the same"),
        (["a.png", "nine.png"], "nine.png is 9 × 9 pixels"),
        (["a.png", "b.png", "-n", "2"], "--count means nothing for pictures"),
        (["--pairs", "3-4"], "--pairs '3-4' is no pair"),
        (["--pairs", "3:99999"], "no image 99999"),
        (["--pairs", "3:3"], "are the same"),
        (["-n", "300"], "400 test images, too few for 300 pairs"),
        (["--order", "sorted"], "unknown order 'sorted'"),
        (["--order", "greedy", "--prior", "chow-liu"], "has no prior 'chow-liu'"),
        (["--frames", "2"], "'--frames': expected"),
        (["--steps", "51", "--features", "none"], "an inversion of 51 steps does not fit"),
        (["--features", "lpip"], "unknown features 'lpip'"),
        (["--split", "tset"], "unknown split"),
    ],
)
def test_what_it_refuses(dmz, workshop, digits, arguments, says):
    Image.fromarray(digits.images[3, ..., 0]).save("a.png")
    Image.fromarray(digits.images[4, ..., 0]).save("b.png")
    Image.new("L", (9, 9)).save("nine.png")
    error, _ = dmz("interpolate", *arguments, "--device", "cpu").mistake()
    assert says in error and not Path("runs/tiny/interpolations").exists()


def test_a_prior_of_other_weights_is_refused(dmz, run):
    card = run.priors / "bernoulli" / "prior.json"
    tree = json.loads(card.read_text())
    tree["metadata"]["model"] = "0" * 64
    card.write_text(json.dumps(tree))
    error, _ = dmz("interpolate", "--prior", "bernoulli", "--run", run.path, *FAST).mistake()
    assert "another model" in error


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("model", "latent", "none", "no bits to interpolate"),
        ("diffusion", "perturbation", 0.1, "trained with input perturbation"),
    ],
)
def test_runs_that_have_no_bits_or_no_inversion(dmz, run, section, key, value, says):
    tree = json.loads(run.settings.read_text())
    tree[section][key] = value
    run.settings.write_text(json.dumps(tree))
    error, _ = dmz("interpolate", "--run", run.path, *FAST).mistake()
    assert says in error
