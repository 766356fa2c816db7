"""Tuned timesteps: nearer to many steps than any spacing, kept with the run, and for its weights alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dmzcli
from dmzcli.diffusion.samplers import create
from dmzcli.diffusion.spacings import spaced_timesteps
from dmzcli.errors import UserError
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.tuned import entries_of, entry_of, store
from dmzcli.generation.tuning import search, tune
from dmzcli.runs import Run

TUNE = ("tune-steps", "--by", "error", "--run", "runs/tiny", "--steps", "3", "-n", "4", "--device", "cpu")


@pytest.fixture(scope="module")
def plain(make_run):
    return make_run("plain", model__latent="none")


@pytest.fixture
def tuned(dmz, workshop):
    ended = dmz(*TUNE, "--sampler", "ddim", "--json")
    assert ended.code == 0, ended.err
    return ended.json


def test_the_search_finds_the_lowest_point_of_a_bowl():
    """Of a separable error, moving one coordinate at a time by halved strides ends at its least, wherever it began."""
    least = (13, 40, 41, 90)
    tried = []

    def error(timesteps):
        tried.append(timesteps)
        return sum((a - b) ** 2 for a, b in zip(timesteps, least, strict=True))

    def better(one, other):
        return error(one) < error(other)

    assert search(better, (0, 1, 2, 3), 100) == least
    assert search(better, (96, 97, 98, 99), 100) == least
    for timesteps in tried:
        assert 0 <= timesteps[0] and timesteps[-1] < 100 and (np.diff(timesteps) > 0).all()


def test_no_spacing_is_nearer_to_many_steps(model):
    bits = np.random.default_rng(0).integers(0, 2, (4, model.dim), dtype=np.uint8)
    found = tune(model, bits, 4, Recipe("ddim", 3), seed=1)
    assert set(found.others) > {"uniform", "trailing", "leading", "quadratic", "log-snr"}
    assert found.value <= min(found.others.values()) and found.by == found.recipe.tuned_by == "error"
    assert found.recipe.spacing == "tuned" and len(found.recipe.timesteps) == 3
    again = tune(model, bits, 4, Recipe("ddim", 3), seed=1, batch_size=3)
    assert again.recipe == found.recipe


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (Recipe("ancestral", 4), "the sampler 'ancestral' adds noise"),
        (Recipe("ddim", 4, eta=0.5), "the sampler 'ddim' with --eta 0.5 adds noise"),
        (Recipe("ddim", 1), "a single step starts at the noise"),
        (Recipe("ddim", 51), "--steps 51 does not fit a model of 50 timesteps"),
    ],
)
def test_what_cannot_be_tuned_is_refused(model, recipe, says):
    with pytest.raises(UserError, match=says):
        tune(model, None, 4, recipe)


def test_a_run_keeps_its_timesteps_and_samples_with_them(dmz, tuned):
    (entry,) = tuned["entries"]
    file = json.loads(Path("runs/tiny/tuned-steps.json").read_text())
    assert file["entries"] == [entry] and file["weights"] == Run(Path("runs/tiny")).weights_hash
    sample = (
        "sample",
        "--run",
        "runs/tiny",
        "-n",
        "3",
        "--sampler",
        "ddim",
        "--steps",
        "3",
        "--device",
        "cpu",
    )
    ended = dmz(*sample, "--spacing", "tuned", "--json")
    assert ended.code == 0, ended.err
    card = json.loads((Path(ended.json["samples"]) / "samples.json").read_text())
    assert (card["spacing"], card["timesteps"]) == ("tuned", entry["timesteps"])
    assert card["tuned_by"] == entry["by"] == "error"
    model = dmzcli.load("runs/tiny", "cpu")
    images = np.load(Path(ended.json["samples"]) / "samples.npz")["images"]
    given = model.sample(n=3, sampler="ddim", steps=3, timesteps=tuple(card["timesteps"]))
    np.testing.assert_array_equal(given, images)  # made again from what the card says
    np.testing.assert_array_equal(model.sample(n=3, sampler="ddim", steps=3, spacing="tuned"), images)
    assert dmz(*sample, "--spacing", "tuned").code == 0  # the same folder is found again
    usual = dmz(*sample, "--json").json
    assert "timesteps" not in usual and usual["samples"] != ended.json["samples"]


def test_samples_of_other_tuned_timesteps_have_another_folder(dmz, tuned):
    run, sample = (
        Run(Path("runs/tiny")),
        ("sample", "--run", "runs/tiny", "-n", "2", "--device", "cpu", "--json"),
    )
    recipe = ("--sampler", "ddim", "--steps", "3", "--spacing", "tuned")
    first = dmz(*sample, *recipe).json
    store(run, {**tuned["entries"][0], "timesteps": [1, 2, 3]})
    second = dmz(*sample, *recipe).json
    assert first["samples"] != second["samples"] and second["timesteps"] == [1, 2, 3]


def test_an_untuned_run_says_what_to_do(dmz, workshop):
    ended = dmz("sample", "--run", "runs/tiny", "--sampler", "unipc", "--steps", "3", "--spacing", "tuned")
    assert ended.code and "runs/tiny has no tuned timesteps for unipc at T = 3" in ended.err
    assert "dmz tune-steps --run runs/tiny --sampler unipc --steps 3" in ended.err
    ended = dmz("sample", "--run", "runs/tiny", "--spacing", "tuned")
    assert ended.code and "'ancestral' adds noise" in ended.err


def test_weights_that_were_trained_on_are_tuned_anew(tuned, workshop):
    run, recipe = Run(Path("runs/tiny")), Recipe("ddim", 3, "tuned")
    assert recipe.of(run).timesteps == tuple(tuned["entries"][0]["timesteps"])
    file = json.loads(run.tuned.read_text())
    run.tuned.write_text(json.dumps({**file, "weights": "0" * 64}))
    with pytest.raises(UserError, match="tuned for other weights"):
        recipe.of(run)
    store(run, {**tuned["entries"][0], "steps": 4, "timesteps": [1, 2, 3, 4]})
    assert [entry["steps"] for entry in entries_of(run)] == [4]  # the other weights' are gone


def test_an_entry_of_before_there_were_two_criteria_was_found_by_the_error(tuned, workshop):
    run = Run(Path("runs/tiny"))
    file = json.loads(run.tuned.read_text())
    del file["entries"][0]["by"]
    run.tuned.write_text(json.dumps(file))
    recipe = Recipe("ddim", 3, "tuned").of(run)
    assert recipe.tuned_by == "error" and recipe.timesteps == tuple(file["entries"][0]["timesteps"])


def test_samples_go_on_whatever_found_their_timesteps(dmz, tuned):
    """A folder of equal timesteps holds equal images, and one of before says no criterion."""
    run, sample = Run(Path("runs/tiny")), ("sample", "--run", "runs/tiny", "--device", "cpu", "--json")
    recipe = ("--sampler", "ddim", "--steps", "3", "--spacing", "tuned", "--out", "here")
    assert dmz(*sample, *recipe, "-n", "2").json["tuned_by"] == "error"
    store(run, {**tuned["entries"][0], "by": "score"})
    assert dmz(*sample, *recipe, "-n", "3").json["tuned_by"] == "score"
    plan = json.loads(Path("here/plan.json").read_text())
    del plan["tuned_by"]
    Path("here/plan.json").write_text(json.dumps(plan))
    assert dmz(*sample, *recipe, "-n", "4").code == 0


def test_entries_of_other_samplers_steps_and_thresholds_stand_side_by_side(tuned, workshop):
    run, entry = Run(Path("runs/tiny")), tuned["entries"][0]
    store(run, {**entry, "threshold": "none", "timesteps": [4, 5, 6]})
    store(run, {**entry, "timesteps": [7, 8, 9]})
    assert entry_of(run, Recipe("ddim", 3, "tuned"))["timesteps"] == [7, 8, 9]
    assert entry_of(run, Recipe("ddim", 3, "tuned", threshold="none"))["timesteps"] == [4, 5, 6]
    with pytest.raises(UserError, match="no tuned timesteps") as error:
        entry_of(run, Recipe("ddim", 3, "tuned", threshold="dynamic"))
    assert "--threshold dynamic --percentile 0.995" in error.value.hint


@pytest.mark.parametrize(
    "damage",
    [
        {"entries": 3},
        {"format": "other"},
        {"weights": None},
        {"entries": [{"sampler": "ddim"}]},
        {"version": 2},
    ],
)
def test_a_damaged_file_is_told(tuned, workshop, damage):
    run = Run(Path("runs/tiny"))
    run.tuned.write_text(json.dumps({**json.loads(run.tuned.read_text()), **damage}))
    with pytest.raises(UserError, match=r"tuned-steps\.json is (damaged|of version 2)"):
        Recipe("ddim", 3, "tuned").of(run)


def test_timesteps_of_another_process_are_refused(model):
    for wrong in ([3, 2, 1], [0, 1, 50], [0.5, 1, 2], [1, 2]):
        with pytest.raises(UserError, match="are not 3 ascending timesteps of a model of 50"):
            create("ddim", model.config.diffusion, 3, wrong)
    with pytest.raises(UserError, match="tuned timesteps are those of one run"):
        spaced_timesteps(model.config.diffusion, 3, "tuned")


def test_a_run_without_bits_is_tuned_on_noise_alone(dmz, workshop, plain):
    shutil.copytree(plain / "runs" / "plain", "runs/plain")
    tune = ("tune-steps", "--by", "error", "--run", "runs/plain", "--steps", "2", "-n", "3")
    ended = dmz(*tune, "--device", "cpu", "--json")
    assert ended.code == 0, ended.err
    recipe = Recipe("unipc", 2, "tuned").of(Run(Path("runs/plain")))
    assert list(recipe.timesteps) == ended.json["entries"][0]["timesteps"]


def test_a_sweep_takes_each_runs_own_timesteps(dmz, tuned, tiny_extractor):
    sweep = (
        "sweep-steps",
        "--run",
        "runs/tiny",
        "--features",
        "tiny",
        "-n",
        "24",
        "--device",
        "cpu",
        "--samplers",
    )
    more = ("--bits", "encoded", "--spacing", "tuned", "--json", "--steps")
    ended = dmz(*sweep, "ddim", *more, "3")
    assert ended.code == 0, ended.err
    folder = Path(ended.json["sweep"]).parent
    made = json.loads((folder / "cards" / "encoded-ddim-003.json").read_text())["generated"]["made"]
    assert made["spacing"] == "tuned" and made["timesteps"] == tuned["entries"][0]["timesteps"]
    ended = dmz(*sweep, "ddim", *more, "3,4")
    assert ended.code and "no tuned timesteps for ddim at T = 4" in ended.err


def test_the_search_sees_no_test_image(dmz, workshop, monkeypatch):
    """Only images of the valid split are encoded."""
    import dmzcli.generation.tuning as tuning

    seen, bits_of = [], tuning.bits_of
    monkeypatch.setattr(
        tuning, "bits_of", lambda model, images: seen.append(images) or bits_of(model, images)
    )
    assert dmz(*TUNE).code == 0
    dataset = dmzcli.data.load("digits")
    valid = {image.tobytes() for image in dataset.images[dataset.rows("valid")]}
    assert len(seen[0]) == 4 and all(image.tobytes() in valid for image in seen[0])


def test_a_recipe_names_its_timesteps_only_where_they_are_its_own():
    assert "timesteps" not in Recipe("ddim", 3).facts()
    tuned = replace(Recipe("ddim", 3), timesteps=(1, 2, 3))
    assert tuned.facts()["timesteps"] == [1, 2, 3] and "tuned_by" not in tuned.facts()
