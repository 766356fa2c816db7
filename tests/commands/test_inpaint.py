"""``dmz inpaint``: folder, grid and card; and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def seven(workshop, digits):
    Image.fromarray(digits.images[7, ..., 0]).save("7.png")
    return digits.images[7, ..., 0]


def test_half_a_picture_by_its_own_bits(dmz, seven):
    out = dmz("inpaint", "7.png", "--half", "left", "-n", 3, "--steps", 5, "--resample", 2, "--json").json
    folder = Path(out["folder"])
    draws = [np.asarray(Image.open(folder / "images" / f"{i:06d}.png")) for i in range(3)]
    assert all((draw[:, 4:] == seven[:, 4:]).all() for draw in draws)
    assert out["known_share"] == 0.5 and out["own_bits_kept"] == [1.0] * 3 and out["prior"] is None
    assert folder.parent == Path("runs/tiny/inpainted") and Image.open(out["grid"]).width > 0
    assert json.loads(Path(out["card"]).read_text())["drawn_rms"] == out["drawn_rms"]
    expected = [np.sqrt(np.square((draw[:, :4] - seven[:, :4].astype(float)) / 255).mean()) for draw in draws]
    np.testing.assert_allclose(out["drawn_rms"], expected)


def test_a_mask_and_a_priors_bits(dmz, seven):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5] = 255
    Image.fromarray(mask).save("mask.png")
    ask = (
        "inpaint",
        "7.png",
        "--mask",
        "mask.png",
        "--bits",
        "prior",
        "--prior",
        "bernoulli",
        "--steps",
        4,
        "--json",
    )
    one, many = dmz(*ask).json, dmz(*ask, "--candidates", 6, "--out", "o").json
    assert one["prior"]["name"] == "bernoulli" and one["prior"]["chosen"] == [0] * 4
    assert many["folder"] == "o" and set(many["prior"]["chosen"]) != {0}
    boxed = dmz("inpaint", "7.png", "--box", "0,2,8,5", *ask[4:], "--out", "b").json
    for i in range(4):  # a box is the mask of the same pixels
        assert (
            Path(f"b/images/00000{i}.png").read_bytes()
            == Path(one["folder"], f"images/00000{i}.png").read_bytes()
        )
    assert boxed["sha256"] == one["sha256"]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ([], "nothing to draw anew", "--mask"),
        (["--half", "left", "--box", "0,0,1,1"], "--box and --half", "name one"),
        (["--half", "middle"], "unknown half 'middle'", "left"),
        (["--box", "1,2,3"], "--box 1,2,3 is not four whole numbers", "0,0,8,16"),
        (["--box", "0,0,9,1"], "is no box", "ends excluded"),
        (["--mask", "small.png"], "small.png is 4 × 4 pixels", "white"),
        (["--mask", "black.png"], "leaves nothing", "white"),
        (["--half", "left", "--bits", "imgae"], "unknown --bits 'imgae'", "'image'"),
        (["--half", "left", "--prior", "bernoulli"], "mean nothing to --bits image", "--bits prior"),
        (["--half", "left", "--candidates", "3"], "mean nothing to --bits image", "--bits prior"),
        (["--half", "left", "--bits", "prior", "--prior", "mixture"], "has no prior 'mixture'", "fit"),
        (["--half", "left", "--sampler", "dddim"], "unknown sampler 'dddim'", "'ddim'"),
    ],
)
def test_mistakes(dmz, seven, arguments, message, hint):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("small.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("black.png")
    error, advice = dmz("inpaint", "7.png", *arguments, "--steps", "2").mistake()
    assert message in error and hint in advice


def test_a_picture_of_another_shape_and_a_run_without_bits(dmz, seven):
    Image.fromarray(np.zeros((8, 9), np.uint8)).save("wide.png")
    assert "wide.png is 9 × 8 pixels" in dmz("inpaint", "wide.png", "--half", "top").mistake()[0]
    config = json.loads(Path("runs/tiny/config.json").read_text())
    config["model"]["latent"] = "none"
    Path("runs/tiny/config.json").write_text(json.dumps(config))
    assert "has latent 'none'" in dmz("inpaint", "7.png", "--half", "top").mistake()[0]
