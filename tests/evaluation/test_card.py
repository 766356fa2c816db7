"""Cards: what is on them, what is refused, and the command."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dmzcli.errors import UserError
from dmzcli.evaluation.card import evaluate
from dmzcli.evaluation.features import create
from dmzcli.evaluation.image_sets import ImageSet

CPU = torch.device("cpu")


@pytest.fixture
def extractor(tiny_extractor, digits):
    return create(tiny_extractor, digits, CPU)


def images_of(dataset, split, **facts):
    return ImageSet(dataset.images[dataset.rows(split)], "some images", "array", **facts)


def test_the_reference_itself_scores_zero(extractor, digits):
    card = evaluate(images_of(digits, "train"), digits, "train", extractor)
    found = {score.metric: score for score in card.scores}
    assert list(found) == ["fid-tiny", "kid-tiny", "score-tiny", "precision-tiny", "recall-tiny"]
    assert found["fid-tiny"].value == pytest.approx(0, abs=1e-9)
    assert found["precision-tiny"].value == found["recall-tiny"].value == 1


def test_worse_images_score_worse(extractor, digits):
    good = images_of(digits, "test")
    dark = dataclasses.replace(good, images=good.images // 2)
    first, second = (
        {s.metric: s.value for s in evaluate(x, digits, "train", extractor).scores} for x in (good, dark)
    )
    assert first["fid-tiny"] < second["fid-tiny"] and first["kid-tiny"] < second["kid-tiny"]
    assert first["precision-tiny"] > second["precision-tiny"]


def test_a_card_says_what_the_scores_depend_on(extractor, digits):
    made = {"sampler": "ddim", "steps": 10}
    samples = images_of(digits, "test", made=made)
    facts = json.loads(json.dumps(evaluate(samples, digits, "train", extractor, ("fid",), seed=3).facts()))
    assert facts["generated"]["made"] == made and facts["generated"]["n"] == len(samples)
    assert facts["generated"]["sha256"] == samples.sha256 and facts["generated"]["encoding"] == "array"
    assert facts["reference"] == {
        "n": len(digits.rows("train")),
        "n_kid_prc": len(digits.rows("train")),
        "dataset": digits.identity,
        "split": "train",
        "lossy": False,
    }
    assert facts["extractor"]["sha256"] == extractor.sha256 and facts["seed"] == 3
    (score,) = facts["scores"]
    assert score["interval_95"][0] < score["value"] < score["interval_95"][1]
    assert any("fewer than 10,000" in warning for warning in facts["warnings"])
    assert "torch-fidelity" in facts["versions"]


def test_compression_is_refused_or_told(extractor, digits):
    lossy = images_of(digits, "test", lossy=True)
    with pytest.raises(UserError, match="JPEG-compressed"):
        evaluate(lossy, digits, "train", extractor)
    card = evaluate(lossy, digits, "train", extractor, ("fid",), allow_lossy=True)
    assert any("samples are JPEG-compressed" in warning for warning in card.warnings)
    photos = dataclasses.replace(digits, lossy=True, identity="digits/jpeg")
    card = evaluate(images_of(digits, "test"), photos, "train", extractor, ("fid",))
    assert any("reference was decoded from JPEG" in warning for warning in card.warnings)


def test_few_images_unknown_metrics_and_other_sizes_are_refused(extractor, digits):
    samples = images_of(digits, "test")
    with pytest.raises(UserError, match="holds 19 images"):
        evaluate(dataclasses.replace(samples, images=samples.images[:19]), digits, "train", extractor)
    with pytest.raises(UserError, match="unknown metric 'fdi'"):
        evaluate(samples, digits, "train", extractor, ("fdi",))
    with pytest.raises(UserError, match="there is no metric"):
        evaluate(samples, digits, "train", extractor, ())
    blind = dataclasses.replace(extractor, logits=None)
    with pytest.raises(UserError, match="'is' needs class logits"):
        evaluate(samples, digits, "train", blind, ("fid", "is"))
    assert "score-tiny" not in {s.metric for s in evaluate(samples, digits, "train", blind).scores}
    large = dataclasses.replace(samples, images=samples.images.repeat(2, 1).repeat(2, 2))
    with pytest.raises(UserError, match="16 × 16 pixels, the reference has 8 × 8"):
        evaluate(large, digits, "train", extractor)
    card = evaluate(large, digits, "train", extractor, ("fid",), resize=True)
    assert card.generated["resized_from"] == 16
    assert any("resampled from 16" in warning for warning in card.warnings)


# The command ---------------------------------------------------------------------------------------------------


def test_a_run_is_sampled_and_scored(dmz, workshop, tiny_extractor):
    ended = dmz("evaluate", "-n", "30", "--steps", "3", "--features", "tiny", "--json", "--device", "cpu")
    assert ended.code == 0, ended.err
    facts = ended.json
    card = Path(facts["card"])
    assert json.loads(card.read_text())["scores"] == facts["scores"]
    assert card.parent.parent == Path("runs/tiny/samples")
    assert (facts["generated"]["made"]["steps"], facts["generated"]["n"]) == (3, 30)
    assert facts["reference"]["split"] == "test"
    assert "warning: 30 samples are fewer" in ended.err
    fewer = dmz("evaluate", card.parent, "--features", "tiny", "--metrics", "fid", "--json").json
    assert fewer["card"] != facts["card"] and card.exists()  # another card, not instead of the first
    again = dmz("evaluate", card.parent, "--features", "tiny", "--json", "--device", "cpu").json
    assert again["scores"] == facts["scores"]  # the same samples, by their folder
    assert again["reference"] == facts["reference"]


def test_more_than_can_be_paired_are_thinned_evenly(extractor, digits, monkeypatch):
    """Sorted sets are common: a prefix of one would be its first classes."""
    from dmzcli.evaluation import scores

    monkeypatch.setattr(scores, "KERNEL_IMAGES", 60)
    order = np.argsort(digits.labels[digits.rows("test")], kind="stable")
    images = digits.images[digits.rows("test")][order]
    card = evaluate(ImageSet(images, "sorted", "array"), digits, "train", extractor, ("kid", "prc"))
    assert card.generated["n"] == len(images) and card.generated["n_kid_prc"] == 60
    first = evaluate(ImageSet(images[:60], "first", "array"), digits, "train", extractor, ("kid",))
    assert card.scores[0].value < first.scores[0].value / 2


def test_large_seeds(extractor, digits):
    evaluate(images_of(digits, "test"), digits, "train", extractor, ("kid", "is"), seed=5_000_000_000)


def test_files_of_anyone(dmz, workshop, tiny_extractor, digits):
    folder = Path("theirs")
    folder.mkdir()
    for i, image in enumerate(digits.images[digits.rows("test")][:40]):
        Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
    options = (
        "--against",
        "digits",
        "--features",
        "tiny",
        "--metrics",
        "fid",
        "--out",
        "card.json",
        "--json",
    )
    facts = dmz("evaluate", folder, *options).json
    assert [score["metric"] for score in facts["scores"]] == ["fid-tiny"] and Path("card.json").exists()
    assert facts["generated"]["encoding"] == "png"
    text = dmz("evaluate", folder, *options[:-1], "--quiet")
    assert text.code == 0 and "fid-tiny" in text.out and text.err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("theirs.npy",), "there is nothing to compare with"),
        (("none", "--against", "digits"), "none does not exist"),
        (("theirs.npy", "--against", "digits", "--split", "dev"), "unknown split 'dev'"),
        (("theirs.npy", "--against", "digits", "--set", "model.bits=3"), "no setting of how images are read"),
        (("--sampler", "dimd"), "unknown sampler 'dimd'"),
        (("--metrics", "fdi"), "unknown metric 'fdi'"),
        (("--metrics", ","), "there is no metric"),
        (("-n", "5"), "--count 5 is too few"),
        (("--out", "."), "--out '.' is a folder, not a file"),
        (("theirs.npy", "--against", "digits", "--steps", "5"), "--steps means nothing for samples"),
        (("theirs.npy", "--against", "digits", "-n", "5"), "--count means nothing for samples"),
        (
            ("--reconstructions", "-n", "5"),
            "--reconstructions is a command of its own by now, dmz reconstruct",
        ),
        (("--prior", "nothing"), "there is no prior 'nothing'"),
        (("theirs.npy", "--reconstructions"), "dmz reconstruct"),
    ],
)
def test_wrong_input(dmz, workshop, tiny_extractor, digits, arguments, says):
    np.save("theirs.npy", digits.images[:40])
    error, _ = dmz("evaluate", *arguments, "--features", "tiny", "--device", "cpu").mistake()
    assert says in error
    assert not list(Path("runs").glob("*/samples/*/images/*"))  # before the work
