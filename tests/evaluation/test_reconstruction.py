"""``dmz reconstruct``: the card, the grid, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmzcli.evaluation.distances import distances, mse
from dmzcli.evaluation.reconstruction import scores_of, sheet
from dmzcli.generation.reconstruct import Reconstructions

FAST = ("--steps", "3", "--device", "cpu")
RNG = np.random.default_rng(0)


def images(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.fixture
def made():
    """Five images, three draws of each, and inversions."""
    originals = images(5, 8, 8, 3)
    return Reconstructions(originals, np.zeros((5, 4), np.uint8), images(3, 5, 8, 8, 3), images(5, 8, 8, 3))


def test_scores_of_draws_are_means_over_them_first(made):
    found = {(of, score.metric): score for of, score in scores_of(made, {"mse": mse})}
    each = np.stack([mse(made.originals, decoded) for decoded in made.draws])  # (K, N)
    bits = found["bits", "mse"]
    assert bits.value == pytest.approx(each.mean())
    assert bits.error == pytest.approx(each.mean(0).std(ddof=1) / np.sqrt(5))
    assert found["bits and x_T", "mse"].value == pytest.approx(mse(made.originals, made.inverted).mean())
    assert found["other bits", "mse"].value == pytest.approx(
        np.mean([mse(made.originals[i : i + 1], made.draws[0][(i - 2) % 5][None])[0] for i in range(5)])
    )
    assert [of for of, _ in scores_of(made, {"mse": mse})] == [
        *("bits", "bits", "mean", "bits and x_T", "other bits")
    ]


def test_one_draw_has_neither_mean_nor_spread_and_one_image_no_control(made):
    single = Reconstructions(made.originals[:1], made.bits[:1], made.draws[:1, :1], None)
    assert [(of, score.metric) for of, score in scores_of(single, {"mse": mse})] == [("bits", "mse")]


def test_the_grid_has_a_row_for_each_part(made):
    """Enlarged six times, to 48 pixels and a gap; each row is 16 pixels of text and 2 more taller."""
    rows = 1 + 3 + 2 + 1
    assert sheet(made).shape == (rows * (48 + 16 + 2) + 2, 5 * 9 * 6 + 4, 3)


def test_the_command_writes_card_and_grid(dmz, workshop):
    ended = dmz("reconstruct", "-n", "12", "--draws", "2", "--invert-steps", "5", *FAST, "--json")
    assert ended.code == 0, ended.err
    facts = ended.json
    assert [(row["from"], row["metric"]) for row in facts["scores"]] == [
        *(("bits", "mse"), ("bits", "psnr"), ("bits", "spread"), ("mean", "mse"), ("mean", "psnr")),
        *(("bits and x_T", "mse"), ("bits and x_T", "psnr"), ("other bits", "mse"), ("other bits", "psnr")),
    ]
    assert set(facts["absent"]) == {"ssim", "lpips"}
    assert json.loads(Path(facts["card"]).read_text())["scores"] == facts["scores"]
    assert Path(facts["grid"]).exists() and (facts["n"], facts["split"], facts["draws"]) == (12, "test", 2)
    assert facts["inversion"]["steps"] == 5 and facts["inversion"]["sampler"] == "ddim"
    assert facts["extractor"] == "lpips-vgg16" and facts["sampling"]["steps"] == 3
    text = dmz("reconstruct", "-n", "12", "--no-invert", *FAST).out
    assert "PSNR" in text and "not defined below" in text and "inverted" not in text


def test_the_first_draw_is_what_the_library_decodes(dmz, workshop, digits):
    """So the card of one draw is that of ``evaluate --reconstructions``, which this command has replaced."""
    import dmzcli
    from dmzcli.data.dataset import spread

    facts = dmz("reconstruct", "-n", "6", "--draws", "1", "--no-invert", *FAST, "--seed", "4", "--json").json
    originals = digits.images[spread(digits.rows("test"), 6)]
    model = dmzcli.load("runs/tiny", "cpu")
    decoded = model.decode(model.encode(originals), seed=4, steps=3)
    expected = {score.metric: score.value for score in distances(originals, decoded)[0]}
    found = {row["metric"]: row["value"] for row in facts["scores"] if row["from"] == "bits"}
    assert found == pytest.approx({name: expected[name] for name in found}) and set(found) == {"mse", "psnr"}


def test_pictures_are_fitted_and_reconstructed(dmz, workshop, digits):
    Image.fromarray(digits.images[3, ..., 0]).save("gray.png")
    Image.fromarray(np.repeat(digits.images[4], 3, -1).repeat(2, 0).repeat(2, 1)).save("large.png")
    error, hint = dmz("reconstruct", "gray.png", "large.png", *FAST).mistake()
    assert "large.png is 16 × 16 pixels" in error and "--fit" in hint
    facts = dmz("reconstruct", "gray.png", "large.png", "--fit", "resize", *FAST, "--json").json
    assert (facts["n"], facts["dataset"], facts["files"]) == (2, "pictures", ["gray.png", "large.png"])
    assert not facts["lossy"] and Path(facts["grid"]).parent == Path("runs/tiny/evaluation")
    alone = dmz("reconstruct", "gray.png", *FAST, "--out", "one.json", "--json").json
    assert {row["interval_95"] for row in alone["scores"]} == {None} and Path("one.png").exists()
    assert dmz("report", "runs/tiny", "--device", "cpu").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothere.png"], "nothere.png"),
        (["--split", "tset"], "unknown split 'tset'"),
        (["--run", "nope"], "nope is no run directory"),
        (["a.png", "-n", "3"], "--count means nothing for pictures"),
        (["--fit", "crop"], "--fit means nothing without pictures"),
        (["--sampler", "dimd"], "unknown sampler 'dimd'"),
        (["--invert-steps", "51"], "an inversion of 51 steps does not fit a model of 50 timesteps"),
        (["--out", "x.png"], "--out x.png is no file for a card"),
    ],
)
def test_what_it_refuses(dmz, workshop, arguments, says):
    error, _ = dmz("reconstruct", *arguments, "--device", "cpu").mistake()
    assert says in error and not Path("runs/tiny/evaluation").exists()


@pytest.mark.parametrize(
    ("section", "key", "value", "says", "hint"),
    [
        ("model", "latent", "none", "it has no bits", "--latent"),
        ("diffusion", "perturbation", 0.1, "trained with input perturbation", "--no-invert"),
    ],
)
def test_runs_that_have_no_bits_or_no_inversion(dmz, run, section, key, value, says, hint):
    tree = json.loads(run.settings.read_text())
    tree[section][key] = value
    run.settings.write_text(json.dumps(tree))
    told = dmz("reconstruct", *FAST, "--run", run.path).mistake()
    assert says in told[0] and hint in told[1]
