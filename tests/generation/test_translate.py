"""Translation: what an output depends on, what may be an input, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dmzcli
from dmzcli.codes.fit import fit
from dmzcli.codes.pair import find_map
from dmzcli.codes.table import BitTable
from dmzcli.data import load, load_pairs
from dmzcli.errors import UserError
from dmzcli.generation.decode import decode
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.translate import draw_seed
from dmzcli.runs.pair import find_pair

FAST = ("--steps", "2", "--device", "cpu")


@pytest.fixture
def translator(paired):
    return dmzcli.load_pair("digits", device="cpu")


@pytest.fixture
def edges(paired):
    dataset = load(str(paired), side="A")
    return np.ascontiguousarray(dataset.images[dataset.rows("test")[:6]])


def test_an_output_depends_on_its_input_its_place_and_its_draw_alone(translator, edges):
    many = translator.translate(edges, n=3, seed=5, steps=2)
    assert many.shape == (6, 3, 8, 8, 1) and many.dtype == np.uint8
    np.testing.assert_array_equal(translator.translate(edges[:4], n=2, seed=5, steps=2), many[:4, :2])
    changed = edges.copy()
    changed[1:] = 0
    np.testing.assert_array_equal(translator.translate(changed, n=3, seed=5, steps=2)[0], many[0])
    assert (translator.translate(edges, n=3, seed=6, steps=2) != many).any()
    assert (many[:, 0] != many[:, 1]).any()
    small = translator.translate(edges, n=3, seed=5, steps=2, batch_size=4)
    assert np.abs(small.astype(int) - many).max() <= 1  # rounding of other batches


def test_it_is_encode_map_decode(translator, edges):
    """The same by hand: A's bits, the map given them, B's images of what it drew."""
    made = translator.translate(edges, n=2, seed=1, steps=2)
    given = dmzcli.load("runs/digits-A", "cpu").encode(edges)
    model = dmzcli.load("runs/digits-B", "cpu")
    for draw in range(2):
        seed = draw_seed(1, draw)
        bits = translator.map.sample(6, seed=seed, given=given)
        sampler = Recipe(steps=2).create(model.config.diffusion)
        images = decode(model.autoencoder, bits, sampler, range(6), seed)
        np.testing.assert_array_equal(made[:, draw], images)


def test_rounded_draws_have_one_code(translator, edges):
    drawn = [translator.draw(edges, draw, 0, 1e-6) for draw in range(3)]
    assert (drawn[0] == drawn[1]).all() and (drawn[1] == drawn[2]).all()
    rounded = translator.translate(edges, n=2, rounded=True, steps=2)
    assert (rounded[:, 0] != rounded[:, 1]).any()  # the noise is left


def test_a_set_of_pairs_has_targets(dmz, paired):
    made = dmz("translate", "--pair", "digits", "-n", "2", "--count", "5", *FAST, "--json").json
    folder = Path(made["folder"])
    assert folder.parent == Path("runs/digits-B/translations")
    assert (made["draws"], made["n_inputs"], made["split"], made["targets"]) == (2, 5, "test", True)
    assert made["map"] == "bernoulli-given-digits-A" and made["map_kind"] == "bernoulli"
    pairs = load_pairs(str(paired))
    with np.load(folder / "translations.npz") as archive:
        rows = archive["index"]
        assert archive["images"].shape == (5, 2, 8, 8, 1)
        np.testing.assert_array_equal(archive["inputs"], pairs.a.images[rows])
        np.testing.assert_array_equal(archive["targets"], pairs.b.images[rows])
        assert archive["names"].tolist() == [pairs.a.names[row] for row in rows]
        expected = dmzcli.load_pair("digits", device="cpu").translate(archive["inputs"], n=2, steps=2)
        np.testing.assert_array_equal(archive["images"], expected)
    assert set(rows) <= set(pairs.a.rows("test"))
    picture = np.asarray(Image.open(folder / "images" / "000003-1.png"))
    np.testing.assert_array_equal(picture, expected[3, 1, ..., 0])
    assert json.loads((folder / "translations.json").read_text())["format"] == "dmz-translations"
    assert (folder / "grid.png").exists()


def test_the_same_command_goes_on(dmz, paired):
    command = ("translate", "--pair", "digits", "-n", "2", "--count", "3", *FAST, "--json")
    first = dmz(*command).json
    folder = Path(first["folder"])
    with np.load(folder / "translations.npz") as archive:
        images = archive["images"]
    marked = np.full((8, 8), 7, np.uint8)
    Image.fromarray(marked).save(folder / "images" / "000000-0.png")  # what is there is taken
    (folder / "images" / "000002-1.png").unlink()
    (folder / "translations.json").unlink()
    facts = dmz("info", folder, "--json").json
    assert (facts["what"], facts["finished"], facts["draws"]) == ("translations", False, 2)
    assert dmz(*command).json["folder"] == str(folder)
    with np.load(folder / "translations.npz") as archive:
        assert (archive["images"][0, 0] == 7).all()
        np.testing.assert_array_equal(archive["images"][1:], images[1:])
    error, _ = dmz(*command, "--seed", "1", "--out", folder).mistake()
    assert "holds other translations: seed is 0 there, 1 here" in error


def test_a_folder_and_a_picture(dmz, paired, edges):
    Path("drawings").mkdir()
    for i, image in enumerate(edges[:3]):
        Image.fromarray(image[..., 0]).save(f"drawings/{i}.png")
    made = dmz("translate", "drawings", "--pair", "digits", "-n", "2", *FAST, "--json").json
    assert (made["n_inputs"], made["targets"], made["split"]) == (3, False, None)
    with np.load(Path(made["folder"]) / "translations.npz") as archive:
        images = archive["images"]
        assert "targets" not in archive
    one = dmz("translate", "drawings/0.png", "--pair", "digits", "-n", "2", *FAST, "--json").json
    with np.load(Path(one["folder"]) / "translations.npz") as archive:
        np.testing.assert_array_equal(archive["images"][0], images[0])  # the same input at the same place
    pair = next((paired / "test").rglob("*.png"))
    both = dmz("translate", pair, "--pair", "digits", "-n", "1", *FAST, "--json").json
    assert both["targets"] is True  # the other half of the picture
    assert (
        dmz("translate", pair, "--pair", "digits", "--set", "data.side=A", *FAST, "--json").json["targets"]
        is False
    )


def test_another_set_of_pairs(dmz, paired, make_pairs):
    make_pairs("others", (150, 8, 8))
    ended = dmz("translate", "others", "--pair", "digits", "--split", "valid", "-n", "1", *FAST, "--json")
    assert ended.code == 0, ended
    made = ended.json
    assert (made["n_inputs"], made["split"], made["targets"]) == (8, "valid", True)


def test_the_other_direction(dmz, paired):
    assert "has no map B-to-A" in dmz("translate", "--pair", "digits", "--direction", "B-to-A").mistake()[0]
    back = ("--pair", "digits", "--direction", "B-to-A")
    assert dmz("fit-prior", *back, "--kind", "bernoulli").code == 0
    made = dmz("translate", *back, "-n", "1", "--count", "2", *FAST, "--json").json
    assert made["target"] == "runs/digits-A" and Path(made["folder"]).parent == Path(
        "runs/digits-A/translations"
    )


def test_mistakes(dmz, paired, digits):
    def refused(words, *arguments):
        error, hint = dmz("translate", *arguments).mistake()
        assert words in error, error
        return hint

    refused("there is no pair 'shoes'", "--pair", "shoes")
    refused("has no map 'mixture' A-to-B", "--pair", "digits", "--kind", "mixture")
    refused("unknown direction 'AB'", "--direction", "AB")
    refused("unknown split 'tset'", "--split", "tset")
    refused("--temperature means nothing with --round", "--round", "--temperature", "0.5")
    refused("missing.png does not exist", "missing.png")
    Path("large").mkdir()
    Image.new("L", (9, 9)).save("large/0.png")
    refused("large/0.png is 9 × 9 pixels (width × height), not 8 × 8", "large")
    refused("large/0.png is 9 × 9 pixels (width × height), not 8 × 8", "large/0.png")
    Path("color").mkdir()
    Image.new("RGB", (8, 8), "red").save("color/0.png")
    hint = refused("color/0.png is in color, and side A of the pair is gray", "color/0.png")
    assert "--set data.channels=1" in hint
    refused("is in color, and side A of the pair is gray", "color")
    made = dmz("translate", "color", "--set", "data.channels=1", "-n", "1", *FAST, "--json")
    assert made.code == 0, made.err


def test_maps_that_are_not_of_the_pair(paired, translator):
    images = np.zeros((2, 9, 8, 1), np.uint8)
    with pytest.raises(UserError, match="the inputs are 9x8x1, the model takes 8x8x1"):
        translator.translate(images)
    with pytest.raises(UserError, match=r"images is float32 \(2, 8, 8, 1\), expected uint8"):
        translator.translate(np.zeros((2, 8, 8, 1), np.float32))
    with pytest.raises(UserError, match="n is 0, expected at least 1"):
        translator.translate(images[:, :8], n=0)
    pair = find_pair("digits")
    table = BitTable.read(pair.b.bits)
    plain = fit(table, pair.b.bits, "bernoulli")
    with pytest.raises(UserError, match="is given no bits of another side"):
        find_map(pair, "A-to-B", str(plain.folder))
    shutil.copy("runs/digits-B/model.safetensors", "kept")
    weights = dmzcli.load("runs/digits-A", "cpu")
    pair.a.save_model(
        {name: v + 0 if v.is_floating_point() else v for name, v in weights.autoencoder.state_dict().items()},
        3,
        pair.a.config,
    )
    with pytest.raises(UserError, match="was given the bits of other weights than"):
        find_map(find_pair("digits"), "A-to-B")
