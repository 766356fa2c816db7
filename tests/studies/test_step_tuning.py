"""Timesteps by the score: chosen on one draw, confirmed on another, and never worse there than a spacing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import dmzcli.studies.step_tuning as step_tuning
from dmzcli.diffusion.spacings import spaced_timesteps
from dmzcli.evaluation.features import create
from dmzcli.evaluation.scores import Score
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.tuned import entries_of
from dmzcli.generation.tuning import registered, valid_bits
from dmzcli.runs import Run
from dmzcli.studies.step_tuning import ScoreSearch

RECIPE = Recipe("ddim", 3)
TUNE = (
    "tune-steps",
    "--run",
    "runs/tiny",
    "--sampler",
    "ddim",
    "--steps",
    "3",
    "-n",
    "20",
    "--device",
    "cpu",
)


@pytest.fixture
def searching(model, few, tiny_extractor):
    """A search on 20 images in tiny features; ``codes=…`` and the like change it."""
    extractor = create(tiny_extractor, few, torch.device("cpu"))
    usual = ScoreSearch(model, valid_bits(model, few, 40), 20, few, "train", extractor)
    return lambda **changes: replace(usual, **changes)


def scored(monkeypatch, value):
    """Lets a function of timesteps and the draw (0 searches, 1 confirms) be the score, the same in every group."""
    scorer = ScoreSearch._scorer

    def of(self, recipe, draw, note):
        scorer(self, recipe, draw, note)  # builds, and decodes nothing

        def score(timesteps):
            found = Score.jackknifed("fid", value(timesteps, draw), [value(timesteps, draw)] * 20)
            note(found)
            return found

        return score

    monkeypatch.setattr(ScoreSearch, "_scorer", of)


def bowl(timesteps, least=(10, 30, 44)):
    return float(sum((a - b) ** 2 for a, b in zip(timesteps, least, strict=True)))


def test_the_search_descends_from_the_best_spacing(searching, monkeypatch):
    scored(monkeypatch, lambda timesteps, draw: bowl(timesteps))
    found = searching().tune(RECIPE)
    assert found.recipe.timesteps == (10, 30, 44) and found.value == 0
    assert found.how["taken"] == "tuned" and found.recipe.tuned_by == found.by == "score"
    gap = found.how["beyond_spacing"]
    assert gap["value"] == -found.how["confirmed"][gap["spacing"]] == -min(found.others.values())


def test_what_is_worse_on_the_second_draw_is_not_taken(searching, model, monkeypatch):
    """The search's optimum is a lucky one: there the second draw says otherwise."""
    spacings = set(registered(model.config.diffusion, 3).values())
    scored(monkeypatch, lambda t, draw: bowl(t) + (1e6 if draw and t not in spacings else 0))
    found = searching().tune(RECIPE)
    taken = found.how["taken"]
    assert taken == min(found.others, key=found.others.get)
    expected = spaced_timesteps(model.config.diffusion, 3, taken).tolist()
    assert list(found.recipe.timesteps) == expected == found.facts()["timesteps"]
    assert found.how["confirmed"]["tuned"] > found.how["confirmed"][taken]
    assert f"score: {taken} is as good" in found.row().values()


def test_a_move_within_the_noise_is_not_made(searching, model, monkeypatch):
    """Every move lowers the score by 1 with a standard error of 2: from the best spacing, none is made."""
    best = tuple(spaced_timesteps(model.config.diffusion, 3, "trailing").tolist())
    # Of 20 groups, half at ±d: s² = 19/20 · 20 d², so that d = 2 / √19 gives a standard error of 2.
    ways = 2 / np.sqrt(19) * np.array([1, -1] * 10)

    def of(self, recipe, draw, note):
        def score(timesteps):
            others = timesteps in set(registered(model.config.diffusion, 3).values()) - {best}
            moved = timesteps != best and not others
            values = 10 + 90 * others - moved + moved * ways
            found = Score.jackknifed("fid", 10.0 + 90 * others - moved, values.tolist())
            note(found)
            return found

        return score

    monkeypatch.setattr(ScoreSearch, "_scorer", of)
    found = searching().tune(RECIPE)
    assert found.recipe.timesteps == best and found.value == 10


def test_the_draws_share_no_code_and_no_noise(searching, model, monkeypatch):
    codes = np.arange(40, dtype=np.uint8)[:, None] >> np.arange(8, dtype=np.uint8) & 1  # all 40 differ
    decoded = []

    def decode(model, codes, sampler, indices, seed, *rest, **more):
        decoded.append(({row.tobytes() for row in codes}, seed))
        return np.random.default_rng(0).integers(0, 256, (len(indices), 8, 8, 1), dtype=np.uint8)

    monkeypatch.setattr(step_tuning, "decode", decode)
    searching(codes=codes).tune(RECIPE)
    draws = {seed: rows for rows, seed in decoded}
    assert len(draws) == 2 and all(len(rows) == 20 for rows in draws.values())
    assert not set.intersection(*draws.values()) and 0 not in draws
    assert all(rows == draws[seed] for rows, seed in decoded)  # candidates are paired


def test_the_result_is_that_of_the_seed(searching):
    first = searching().tune(RECIPE)
    assert first.recipe == searching(batch_size=7).tune(RECIPE).recipe
    assert set(first.others) > {"uniform", "trailing", "leading", "quadratic", "log-snr"}
    assert first.value <= min(first.others.values()) or first.how["taken"] != "tuned"


def test_few_codes_are_taken_in_turn(searching, model):
    one = np.zeros((1, model.dim), np.uint8)
    assert searching(codes=one).tune(RECIPE).how["count"] == 20


def test_the_command_keeps_what_it_found(dmz, workshop, tiny_extractor):
    ended = dmz(*TUNE, "--features", "tiny", "--json")
    assert ended.code == 0, ended.err
    (entry,) = ended.json["entries"]
    run = Run(Path("runs/tiny"))
    assert entries_of(run) == [entry] and entry["by"] == "score" and entry["metric"] == "fid-tiny"
    assert entry["confirmed"][entry["taken"]] == min(entry["confirmed"].values())
    assert entry["reference"]["split"] == "train"
    sample = (
        "sample",
        "--run",
        "runs/tiny",
        "-n",
        "2",
        "--sampler",
        "ddim",
        "--steps",
        "3",
        "--device",
        "cpu",
    )
    card = dmz(*sample, "--spacing", "tuned", "--json").json
    assert (card["timesteps"], card["tuned_by"]) == (entry["timesteps"], "score")
    assert dmz(*TUNE, "--by", "error", "--json").json["entries"][0]["by"] == "error"
    assert [entry["by"] for entry in json.loads(run.tuned.read_text())["entries"]] == ["error"]


def test_a_run_without_bits_is_searched_on_noise_alone(few, make_run, tiny_extractor):
    run = Run(make_run("plain", model__latent="none") / "runs" / "plain")
    model = run.load_model(torch.device("cpu"))
    assert valid_bits(model, few, 40) is None
    extractor = create(tiny_extractor, few, torch.device("cpu"))
    assert len(ScoreSearch(model, None, 20, few, "train", extractor).tune(RECIPE).recipe.timesteps) == 3


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--by", "looks"), "--by looks is neither score nor error"),
        (("--by", "error", "--split", "train"), "--split means nothing with --by error"),
        (("-n", "10"), "--count 10 is too few for a score"),
        (("--split", "all"), "unknown split 'all'"),
        (("--features", "tinny"), "unknown features 'tinny'"),
        (("--sampler", "ancestral"), "the sampler 'ancestral' adds noise"),
    ],
)
def test_what_cannot_be_done_is_told(dmz, workshop, more, says):
    error, _ = dmz(*TUNE, *more).mistake()
    assert says in error
