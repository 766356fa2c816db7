"""Sampling runs: image i belongs to (seed, i); a folder belongs to its plan."""

import json
import os
import signal
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dmzcli.codes.draw import draw_bits
from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.samplers import available, create
from dmzcli.errors import UserError
from dmzcli.generation import samples as sampling
from dmzcli.generation.decode import decode, invert
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.samples import Samples, sample
from dmzcli.model.autoencoder import build
from dmzcli.model.pixels import to_unit
from dmzcli.system.interrupts import Interrupted
from dmzcli.system.png import grid

BITS = np.random.default_rng(0).integers(0, 2, (12, 8), dtype=np.uint8)
PLAN = Samples("m" * 64, "bernoulli", "p" * 64, 12, Recipe(steps=5, spacing="uniform"))
RECIPE = {field.name for field in fields(Recipe)}


def changed(samples, **values):
    """Samples with other values, of their own or of their recipe."""
    recipe = replace(samples.recipe, **{k: v for k, v in values.items() if k in RECIPE})
    return replace(samples, recipe=recipe, **{k: v for k, v in values.items() if k not in RECIPE})


def near(one, other):
    """Equal images, up to one grey level.

    Other batch sizes may take other float32 kernels: over a few dozen evaluations these differ by about 1e-5,
    which moves a value across a rounding boundary of width 2/255 now and then, by one level.
    """
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).max() <= 1


# Decoding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", available())
def test_an_image_depends_on_its_seed_and_index_alone(model, name):
    sampler = create(name, model.config.diffusion, 5, eta=1.0 if name == "ddim" else 0.0)
    whole = decode(model, BITS, sampler, range(12), seed=3, batch_size=12)
    assert whole.shape == (12, 8, 8, 1) and whole.dtype == np.uint8
    for size in (1, 5):
        assert near(decode(model, BITS, sampler, range(12), seed=3, batch_size=size), whole)
    some = [7, 2, 11]
    assert near(decode(model, BITS[some], sampler, some, seed=3), whole[some])
    other = decode(model, BITS, sampler, range(12), seed=4)
    assert not near(other, whole)


def test_the_bits_matter(tiny):
    """A cross-attention that has learnt something: random weights in its last layers."""
    model = build(tiny()).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    sampler = create("ddim", model.config.diffusion, 5)
    one, other = (decode(model, bits, sampler, range(12), seed=0) for bits in (BITS, 1 - BITS))
    assert not near(one, other)


def test_decoding_tells_how_far_it_is(model):
    told = []
    sampler = create("ddim", model.config.diffusion, 2)
    decode(model, BITS, sampler, range(12), seed=0, batch_size=5, done=told.append)
    assert told == [5, 10, 12]


def test_inverting_images_is_the_solvers_way_back(tiny, model, digits):
    """At its initialisation the network predicts no noise wherever it is asked, so that the way back is exact."""
    images, bits = digits.images[:6], BITS[:6]
    sampler = create("ddim", model.config.diffusion, 25, threshold="none")
    start = build(tiny()).eval()
    noise = torch.from_numpy(invert(start, images, bits, sampler))
    assert noise.shape == (6, 1, 8, 8)
    back = sampler.sample(start.denoiser(torch.from_numpy(bits)), lambda: noise)
    torch.testing.assert_close(back, to_unit(images), rtol=1e-4, atol=1e-4)
    # A trained one sees its bits, and an image's noise is its own whatever the batch.
    whole, parts = (invert(model, images, bits, sampler, batch_size=size) for size in (6, 4))
    np.testing.assert_allclose(whole, parts, rtol=1e-2, atol=1e-3)
    assert np.abs(whole - noise.numpy()).max() > 0.1


def test_bits_of_another_length_are_refused(model):
    with pytest.raises(UserError, match=r"^the model has 8 bits, but 5 were given$"):
        decode(model, BITS[:, :5], create("ddim", model.config.diffusion, 2), range(12), seed=0)


# The folder ----------------------------------------------------------------------------------------------------


def test_what_a_folder_of_samples_holds(model):
    images = sample(model, BITS, PLAN, Path("out"))
    assert {str(file.relative_to("out")) for file in Path("out").rglob("*") if file.is_file()} == {
        "plan.json",
        "samples.json",
        "samples.npz",
        "grid.png",
        *(f"images/{i:06d}.png" for i in range(12)),
    }
    for i in range(12):
        assert np.array_equal(np.asarray(Image.open(f"out/images/{i:06d}.png")), images[i, :, :, 0])
    with np.load("out/samples.npz") as stream:
        assert set(stream.files) == {"images", "bits"}
        assert np.array_equal(stream["images"], images)
        assert np.array_equal(np.unpackbits(stream["bits"], axis=1, count=8, bitorder="big"), BITS)
    assert np.array_equal(np.asarray(Image.open("out/grid.png")), grid(images)[:, :, 0])
    card = json.loads(Path("out/samples.json").read_text())
    assert card == {**PLAN.facts(), "size": 8, "channels": 1, "encoding": "png"}


def test_the_same_plan_makes_the_same_images(model):
    first, second = (sample(model, BITS, PLAN, Path(name)) for name in ("a", "b"))
    assert np.array_equal(first, second)
    assert near(sample(model, BITS, PLAN, Path("c"), batch_size=5), first)


def test_fewer_images_are_a_prefix_of_more(model):
    few = sample(model, BITS[:5], replace(PLAN, count=5), Path("few"))
    many = sample(model, BITS, PLAN, Path("many"))
    assert near(few, many[:5])


def test_a_longer_plan_goes_on_in_the_same_folder(model):
    first = sample(model, BITS[:5], replace(PLAN, count=5), Path("out"))
    both = sample(model, BITS, PLAN, Path("out"))
    assert np.array_equal(both[:5], first) and near(both, sample(model, BITS, PLAN, Path("whole")))
    assert json.loads(Path("out/samples.json").read_text())["count"] == 12
    assert json.loads(Path("out/plan.json").read_text())["count"] == 12


def test_a_partial_folder_is_finished_and_finished_images_are_kept(model):
    whole = sample(model, BITS, PLAN, Path("out"))
    for name in ("samples.json", "samples.npz", "grid.png", "images/000003.png", "images/000011.png"):
        Path("out", name).unlink()
    times = {file: file.stat().st_mtime_ns for file in Path("out/images").iterdir()}
    assert near(sample(model, BITS, PLAN, Path("out")), whole)
    assert all(file.stat().st_mtime_ns == then for file, then in times.items())
    assert Path("out/samples.json").exists()


@pytest.mark.parametrize("left", [".lock", ".tmp/0123abcd.json", ".plan.json.abc_1234.tmp"])
def test_a_folder_that_was_left_at_its_first_write_is_taken(model, left):
    """By a kill of this version, or of an earlier one; with anything of the user's in it, it is not."""
    Path("out", left).parent.mkdir(parents=True)
    Path("out", left).write_text("half")
    Path("out/mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"^out is there already and holds no samples of dmz$"):
        sample(model, BITS, PLAN, Path("out"))
    Path("out/mine.txt").unlink()
    sample(model, BITS, PLAN, Path("out"))
    assert sorted(os.listdir("out")) == ["grid.png", "images", "plan.json", "samples.json", "samples.npz"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_keeps_finished_images(model, monkeypatch, number):
    inner, batches = sampling.decode, []

    def decode_and_signal(*arguments, **options):
        batches.append(1)
        if len(batches) == 2:
            signal.raise_signal(number)
        return inner(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "decode", decode_and_signal)
        with pytest.raises(Interrupted, match="run the same command to go on"):
            sample(model, BITS, PLAN, Path("out"), batch_size=4)
    assert len(list(Path("out/images").iterdir())) == 8 and not Path("out/samples.json").exists()
    assert np.array_equal(
        sample(model, BITS, PLAN, Path("out"), batch_size=4),
        sample(model, BITS, PLAN, Path("b"), batch_size=4),
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"steps": 6}, "steps is 5 there, 6 here"),
        ({"model": "x"}, "model is "),
        ({"prior": "uniform"}, "prior is 'bernoulli' there, 'uniform' here"),
        ({"sampler": "ddim"}, "sampler is 'ancestral' there, 'ddim' here"),
        ({"temperature": 0.5}, "temperature is 1.0 there, 0.5 here"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_folder_of_another_plan_is_refused(model, change, told):
    sample(model, BITS, PLAN, Path("out"))
    before = {file: file.read_bytes() for file in Path("out").rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=rf"^out holds other samples: {told}"):
        sample(model, BITS, changed(PLAN, **change), Path("out"))
    assert {file: file.read_bytes() for file in Path("out").rglob("*") if file.is_file()} == before


def test_a_folder_of_an_earlier_solver_is_not_mixed_with_todays(model):
    """The second-order solvers make other images of the same recipe since they end in first order."""
    recipe = changed(PLAN, sampler="dpm++", steps=5)
    sample(model, BITS, recipe, Path("out"))
    plan = json.loads(Path("out/plan.json").read_text())
    assert plan.pop("law") == 2
    Path("out/plan.json").write_text(json.dumps(plan))
    with pytest.raises(
        UserError, match=r"^out holds images of an earlier dpm\+\+, which makes others today$"
    ):
        sample(model, BITS, recipe, Path("out"))


def test_a_folder_with_more_images_is_refused(model):
    sample(model, BITS, PLAN, Path("out"))
    with pytest.raises(UserError, match=r"^out holds 12 images already, more than 5$"):
        sample(model, BITS[:5], replace(PLAN, count=5), Path("out"))


def test_a_folder_of_someone_elses_is_refused(model):
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"^out is there already and holds no samples of dmz$"):
        sample(model, BITS, PLAN, Path("out"))
    assert [file.name for file in Path("out").iterdir()] == ["thesis.tex"]


def other_picture(path):
    Image.new("RGB", (9, 9)).save(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no picture"),
        lambda path: path.write_bytes(path.read_bytes()[:80]),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        other_picture,
    ],
    ids=["empty", "text", "truncated", "header", "other"],
)
def test_a_spoilt_image_is_named(model, spoil):
    sample(model, BITS, PLAN, Path("out"))
    spoil(Path("out/images/000004.png"))
    with pytest.raises(UserError, match=r"^out/images/000004\.png is not an image of this run$"):
        sample(model, BITS, PLAN, Path("out"))


@pytest.mark.parametrize(
    "field",
    ["seed", "sampler", "steps", "spacing", "eta", "temperature", "threshold", "model", "prior_hash"],
)
def test_default_folders_tell_plans_apart(field):
    other = {"sampler": "ddim", "spacing": "ddim", "model": "x", "prior_hash": "x"}.get(field, 7)
    assert changed(PLAN, **{field: other}).folder_name() != PLAN.folder_name()
    assert replace(PLAN, count=99).folder_name() != PLAN.folder_name()


@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [("ancestral", "uniform"), ("ddim", "ddim"), ("dpm++", "leading"), ("unipc", "leading")],
)
def test_folder_names_outlive_a_change_of_default(sampler, spacing):
    """What was written under a default of its day is found by its recipe; today's default has a name of its own."""
    earlier = changed(PLAN, sampler=sampler, spacing=spacing)
    assert earlier.folder_name().startswith(f"bernoulli-{sampler}-5-n12-seed0-") and spacing not in (
        earlier.folder_name().removeprefix(f"bernoulli-{sampler}")
    )
    today = replace(PLAN, recipe=Recipe(sampler, 5).resolved(DiffusionConfig()))
    assert (today.folder_name() == earlier.folder_name()) == (today.recipe.spacing == spacing)


def test_a_percentile_names_a_dynamic_folder_only():
    dynamic = changed(PLAN, threshold="dynamic")
    assert changed(dynamic, percentile=0.9).folder_name() != dynamic.folder_name()
    assert "clip" not in PLAN.folder_name()


def test_a_folder_from_before_a_setting_existed_goes_on(model):
    """Its plan lacks what was then always so; the same plan today has that as its default."""
    first = sample(model, BITS[:5], replace(PLAN, count=5), Path("out"))
    card = json.loads(Path("out/plan.json").read_text())
    del card["threshold"], card["percentile"]
    Path("out/plan.json").write_text(json.dumps(card))
    assert np.array_equal(sample(model, BITS, PLAN, Path("out"))[:5], first)
    Path("out/plan.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"threshold is 'clip' there, 'none' here"):
        sample(model, BITS, changed(PLAN, threshold="none"), Path("out"))


def test_a_model_without_a_latent(tiny):
    model = build(tiny(model__latent="none")).eval()
    plan = Samples("m", "none", "", 3, Recipe(steps=3))
    assert sample(model, None, plan, Path("out")).shape == (3, 8, 8, 1)
    with np.load("out/samples.npz") as stream:
        assert stream.files == ["images"]


@pytest.mark.parametrize("name", ["ddim", "dpm++", "unipc"])
def test_solvers_without_noise_after_perturbed_training_are_warned_of(tiny, name):
    model = build(tiny(diffusion__perturbation=0.1)).eval()
    said = []

    class Listener(sampling.Silence):
        def say(self, message):
            said.append(message)

    sample(model, BITS, changed(PLAN, sampler=name, spacing="leading"), Path("a"), talk=Listener())
    assert any("perturbation" in message for message in said)


# Codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "bernoulli", "empirical"])
def test_codes_of_fewer_images_are_a_prefix(run, kind):
    few, many = (draw_bits(run, 8, kind, count, seed=2) for count in (5, 40))
    assert np.array_equal(few.bits, many.bits[:5]) and few.sha256 == many.sha256 and many.name == kind
    assert many.bits.shape == (40, 8)
    assert not np.array_equal(draw_bits(run, 8, kind, 40, seed=3).bits, many.bits)


def test_the_newest_prior_is_taken(run):
    import os

    os.utime(run.priors / "uniform" / "prior.json")
    assert draw_bits(run, 8, None, 3, seed=0).name == "uniform"


def test_fitting_the_same_prior_again_makes_the_same_samples(dmz, workshop):
    """The command again is the same plan: it goes on in the same folder, whatever the clock says."""
    made = []
    for _ in range(2):
        assert dmz("fit-prior", "--run", "runs/tiny", "--kind", "bernoulli").code == 0
        made.append(dmz("sample", "bernoulli", "-n", "3", "--steps", "2", "--json").json["samples"])
    assert made[0] == made[1]


def test_a_model_without_a_latent_takes_no_prior(run):
    assert draw_bits(run, 0, None, 3, seed=0).bits is None
    with pytest.raises(
        UserError, match=r"^a model with latent 'none' takes no prior, but 'uniform' was given$"
    ):
        draw_bits(run, 0, "uniform", 3, seed=0)


@pytest.fixture
def by_class(dmz, workshop):
    """A prior of the run given the digits' classes."""
    options = ("--run", "runs/tiny", "--kind", "bernoulli", "--given", "labels")
    assert dmz("fit-prior", *options, "--out", "runs/tiny/priors/by-class").code == 0
    return "by-class"


def test_a_prior_given_labels_draws_the_classes_in_turn(dmz, by_class):
    ended = dmz("sample", by_class, "-n", "20", "--steps", "2", "--json")
    assert ended.code == 0, ended.err
    folder = Path(ended.json["samples"])
    with np.load(folder / "samples.npz") as archive:
        assert archive["labels"].tolist() == [*range(10)] * 2
        assert archive["label_names"].tolist() == list("0123456789")
        assert np.array_equal(
            np.asarray(Image.open(folder / "images/000013-3.png")), archive["images"][13, ..., 0]
        )
    card = json.loads((folder / "samples.json").read_text())
    assert card["images_per_label"] == {str(i): 2 for i in range(10)}
    # Ten rows of two images, each row below its class's name.
    assert np.asarray(Image.open(folder / "grid.png")).shape == (10 * (8 * 6 + 18) + 2, 10 * 9 * 6 + 4, 3)


def test_a_class_is_chosen(dmz, by_class):
    """The images of a class are others than all in turn, and lie in a folder of their own."""
    options = ("sample", by_class, "-n", "4", "--steps", "2", "--json")
    every, sevens = dmz(*options), dmz(*options, "--class", "7")
    assert sevens.code == 0, sevens.err
    assert sevens.json["samples"] != every.json["samples"] and "-7-ancestral" in sevens.json["samples"]
    assert sevens.json["classes"] == ["7"]
    folder = Path(sevens.json["samples"])
    with np.load(folder / "samples.npz") as archive:
        assert archive["labels"].tolist() == [7] * 4
    again = dmz(*options, "--class", "8", "--out", folder)
    assert "holds other samples: classes is ['7'] there, ['8'] here" in again.mistake()[0]
    assert dmz("fit-prior", "--kind", "uniform").code == 0  # the newest prior knows no classes
    unnamed = dmz("sample", "-n", "4", "--steps", "2", "--json", "--class", "7")
    assert unnamed.json["samples"] == sevens.json["samples"]
    error, hint = dmz(*options, "--class", "seven").mistake()
    assert error == "error: there is no class 'seven'" and "classes: 0, 1" in hint
    error, hint = dmz("sample", "uniform", "--class", "7").mistake()
    assert error == "error: this prior is given nothing, not classes"


def test_a_folder_from_before_names_said_the_class_goes_on(dmz, by_class):
    options = ("sample", by_class, "--steps", "2", "--out", "out")
    assert dmz(*options, "-n", "3").code == 0
    before = {}
    for number, file in enumerate(sorted(Path("out/images").iterdir())):
        before[file.name] = file.read_bytes()
        file.rename(f"out/images/{number:06d}.png")
    assert dmz(*options, "-n", "5").code == 0
    assert [file.name for file in sorted(Path("out/images").iterdir())] == [
        f"00000{i}-{i}.png" for i in range(5)
    ]
    assert all(Path("out/images", name).read_bytes() == data for name, data in before.items())


def test_bf16_is_another_plan_of_nearly_the_same_images(dmz, workshop):
    """Eight bits of mantissa: rounding of 2⁻⁹ an operation, some grey levels after all layers and steps."""
    made = {}
    for precision in ("no", "bf16"):
        ended = dmz(
            "sample", "-n", "8", "--steps", "5", "--precision", precision, "--device", "cpu", "--json"
        )
        assert ended.json["precision"] == precision
        folder = Path(ended.json["samples"])
        assert ("bf16" in folder.name) == (precision == "bf16")
        made[precision] = np.load(folder / "samples.npz")["images"].astype(int)
    difference = np.abs(made["no"] - made["bf16"])
    assert 0 < difference.mean() < 4
    error, hint = dmz("sample", "--precision", "fp16").mistake()
    assert "unknown precision 'fp16'" in error and "bf16" in hint
