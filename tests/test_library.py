"""The library: one object per run, with the results of the commands, and a sentence for every wrong array."""

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest

import dmzcli
import priors
from dmzcli.errors import UserError


@pytest.fixture
def loaded(workshop):
    return dmzcli.load("runs/tiny", device="cpu")


@pytest.fixture
def images(digits):
    return digits.images[:9]


def test_bits_are_those_of_the_command(loaded, digits):
    from dmzcli.codes.table import BitTable

    bits = loaded.encode(digits.images)
    assert bits.dtype == np.uint8 and np.array_equal(bits, BitTable.read(loaded.run.bits).bits)
    assert np.array_equal(loaded.encode(digits.images[:7], batch_size=2), bits[:7])
    assert loaded.encode(digits.images[:0]).shape == (0, loaded.dim)


@pytest.mark.parametrize(
    "how", [{}, {"sampler": "ddim", "eta": 0.5, "spacing": "trailing"}, {"sampler": "dpm++"}]
)
def test_samples_are_those_of_the_command(loaded, dmz, how):
    options = [part for name, value in how.items() for part in (f"--{name}", value)]
    command = ("sample", "bernoulli", "--run", "runs/tiny", "--count", 5, "--steps", 3, "--seed", 4)
    ended = dmz(*command, *options, "--device", "cpu", "--out", "made")
    assert ended.code == 0, ended.err
    expected = np.load("made/samples.npz")
    prior = priors.load("runs/tiny/priors/bernoulli")
    for given in ("bernoulli", "runs/tiny/priors/bernoulli", Path("runs/tiny/priors/bernoulli"), prior):
        assert np.array_equal(loaded.sample(given, 5, seed=4, steps=3, **how), expected["images"])
    bits = prior.sample(5, seed=4)
    assert np.array_equal(np.packbits(bits, axis=1), expected["bits"])
    decoded = loaded.decode(bits, steps=3, seed=4, batch_size=2, **how)
    assert np.array_equal(decoded, expected["images"])


def test_the_newest_prior_of_the_run_is_taken_where_none_is_named(loaded):
    newest = max(Path("runs/tiny/priors").glob("*/prior.json"), key=lambda file: file.stat().st_mtime_ns)
    named = loaded.sample(newest.parent.name, 2, steps=2)
    assert np.array_equal(loaded.sample(n=2, steps=2), named)


def test_a_prior_given_labels_takes_the_classes_in_turn(loaded, digits):
    one_hot = np.eye(10, dtype=np.uint8)
    prior = priors.create("bernoulli", dim=loaded.dim)
    prior.fit(loaded.encode(digits.images), given=one_hot[digits.labels])
    bits = prior.sample(12, seed=1, given=one_hot[np.arange(12) % 10])
    assert np.array_equal(loaded.sample(prior, 12, seed=1, steps=2), loaded.decode(bits, seed=1, steps=2))
    sevens = prior.sample(4, seed=1, given=one_hot[[7] * 4])
    chosen = loaded.sample(prior, 4, seed=1, classes=["7"], steps=2)
    assert np.array_equal(chosen, loaded.decode(sevens, seed=1, steps=2))


def test_rows_in_the_middle_are_decoded_alone(loaded, images):
    bits = loaded.encode(images)
    whole = loaded.decode(bits, steps=2)
    assert np.array_equal(loaded.decode(bits[3:5], first=3, steps=2), whole[3:5])
    assert not np.array_equal(loaded.decode(bits[3:5], steps=2), whole[3:5])  # other noise
    with pytest.raises(UserError, match="first is -1"):
        loaded.decode(bits, first=-1)


def test_inversion_goes_back_to_a_noise_of_the_images_own_bits(loaded, images):
    """Another code makes another noise: the inversion does use the bits."""
    bits = loaded.encode(images)
    noise = loaded.invert(images, steps=5)
    assert noise.shape == (9, 1, 8, 8) and noise.dtype == np.float32
    assert np.array_equal(noise, loaded.invert(images, bits, steps=5))
    assert not np.allclose(noise, loaded.invert(images, 1 - bits, steps=5))
    assert loaded.invert(images[:0]).shape == (0, 1, 8, 8)
    timesteps = loaded.config.diffusion.timesteps  # fewer than the usual 100 steps
    assert np.array_equal(loaded.invert(images[:1]), loaded.invert(images[:1], steps=timesteps))
    with pytest.raises(UserError, match="--steps 0 does not fit"):
        loaded.invert(images, steps=0)
    leading = loaded.invert(images, bits, steps=7, spacing="leading")
    assert not np.allclose(leading, loaded.invert(images, bits, steps=7, spacing="trailing"))


@pytest.mark.parametrize(
    ("timesteps", "spacing", "steps"),
    [(150, "ddim", 75), (250, "ddim", 84), (1000, "ddim", 100), (150, "leading", 100), (40, "ddim", 40)],
)
def test_the_usual_inversion_takes_a_number_of_steps_that_there_is(timesteps, spacing, steps):
    """No whole stride takes exactly 100 of 150 or of 250 timesteps."""
    from dmzcli.config import DiffusionConfig
    from dmzcli.diffusion.inversion import usual_steps

    assert usual_steps(DiffusionConfig(timesteps=timesteps), spacing) == steps


def test_what_it_says_of_itself(loaded):
    assert repr(loaded) == "Model('runs/tiny': 8x8x1 images, 8 bits, on cpu)"
    assert loaded.config == loaded.run.config and loaded.config.model.bits == loaded.dim == 8
    assert loaded.run.path == Path("runs/tiny") and loaded.shape == (8, 8, 1)


def test_a_plain_diffusion_model_has_images_but_no_bits(make_run):
    plain = dmzcli.load(make_run("plain", model__latent="none") / "runs/plain", device="cpu")
    assert plain.sample(n=2, steps=2).shape == (2, 8, 8, 1)
    assert plain.invert(np.zeros((2, 8, 8, 1), np.uint8), steps=2).shape == (2, 1, 8, 8)
    for wrong in (
        lambda: plain.encode(np.zeros((2, 8, 8, 1), np.uint8)),
        lambda: plain.decode(np.zeros((2, 8), np.uint8)),
    ):
        with pytest.raises(UserError, match="has no bits"):
            wrong()


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        ([[1]], r"images is a list, expected uint8 \(N, 8, 8, 1\)"),
        (np.zeros((2, 8, 8, 1)), r"images has dtype float64, expected uint8 \(N, 8, 8, 1\)"),
        (np.zeros((8, 8, 1), np.uint8), r"images has shape \(8, 8, 1\), expected"),
        (np.zeros((2, 1, 8, 8), np.uint8), r"images has shape \(2, 1, 8, 8\), expected"),
    ],
)
def test_wrong_images(loaded, array, sentence):
    for method in (loaded.encode, loaded.invert):
        with pytest.raises(UserError, match=sentence):
            method(array)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        ([[1]], r"bits is a list, expected uint8 \(N, 8\) of 0 and 1"),
        (np.zeros((2, 8), bool), r"bits has dtype bool, expected"),
        (np.zeros(8, np.uint8), r"bits has shape \(8,\), expected"),
        (np.zeros((2, 7), np.uint8), r"bits has shape \(2, 7\), expected uint8 \(N, 8\)"),
        (np.full((2, 8), 255, np.uint8), r"bits holds the value 255, expected"),
    ],
)
def test_wrong_bits(loaded, images, array, sentence):
    for method in (loaded.decode, lambda bits: loaded.invert(images[:2], bits)):
        with pytest.raises(UserError, match=sentence):
            method(array)


def test_wrong_numbers_of_rows(loaded, images):
    with pytest.raises(UserError, match="3 rows of bits were given for 9 images"):
        loaded.invert(images, np.zeros((3, 8), np.uint8))
    with pytest.raises(UserError, match="n is 0, expected at least 1"):
        loaded.sample("bernoulli", 0)


def test_wrong_priors_and_samplers(loaded):
    other = priors.create("uniform", dim=5)
    other.fit(np.zeros((4, 5), np.uint8))
    with pytest.raises(UserError, match=r"the prior has 5 bits, the model of runs/tiny has 8"):
        loaded.sample(other, 2)
    foreign = priors.load("runs/tiny/priors/bernoulli")
    foreign.metadata["model"] = "0" * 64
    with pytest.raises(UserError, match="fitted to the bits of another model"):
        loaded.sample(foreign, 2)
    with pytest.raises(UserError, match="there is no prior 'bernouli'"):
        loaded.sample("bernouli", 2)
    with pytest.raises(UserError, match="unknown sampler 'dimm'"):
        loaded.sample("bernoulli", 2, sampler="dimm")


def test_no_run_and_no_device():
    with pytest.raises(UserError, match="nowhere is no run directory"):
        dmzcli.load("nowhere")


def test_a_device_that_is_not_there(workshop):
    with pytest.raises(UserError, match="no device 'warp' here"):
        dmzcli.load("runs/tiny", device="warp")


@pytest.mark.parametrize("module", ["dmzcli", "dmzcli.runs", "dmzcli.config"])
def test_light_modules_do_not_import_torch(python, module):
    assert python(f"import sys, {module}; print('torch' in sys.modules)") == "False\n"


PACKAGE = Path(dmzcli.__file__).parent
FACES = sorted([*PACKAGE.rglob("__init__.py"), Path(priors.__file__)])


@pytest.mark.parametrize("file", FACES, ids=lambda file: f"{file.parent.parent.name}/{file.parent.name}")
def test_a_face_says_what_it_offers(file):
    """Every name that a package takes from its modules and does not use itself stands in ``__all__``."""
    name = ".".join(file.parent.relative_to(PACKAGE.parent).parts)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    own = [node for node in imports if node.module and node.module.startswith(f"{name}.")]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    passed_on = {alias.asname or alias.name for node in own for alias in node.names} - used
    module = importlib.import_module(name)
    offered = set(getattr(module, "__all__", ()))
    assert passed_on <= offered
    assert {one for one in offered if not hasattr(module, one)} == set()


def test_types_travel_with_both_packages():
    for package in (dmzcli, priors):
        assert (Path(package.__file__).parent / "py.typed").exists()


def test_what_was_inverted_comes_back(loaded, images):
    """DDIM from an image's own x_T is nearer to the image than DDIM from other noise; ancestral noise is new anyway."""
    bits, noise = loaded.encode(images), loaded.invert(images)
    how = {"sampler": "ddim", "steps": 50, "threshold": "none"}
    back, other = loaded.decode(bits, noise=noise, **how), loaded.decode(bits, **how)

    def error(result):
        return np.abs(result.astype(float) - images).mean()

    assert error(back) < 0.7 * error(other)


@pytest.mark.parametrize("noise", [np.zeros((9, 8, 8, 1), np.float32), np.zeros((9, 1, 8, 8)), [0.0]])
def test_noise_of_another_shape_is_refused(loaded, images, noise):
    with pytest.raises(UserError, match=r"^noise is .*, expected float32 \(9, 1, 8, 8\)$"):
        loaded.decode(loaded.encode(images), noise=noise)
