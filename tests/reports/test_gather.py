"""The page on any run: what is there has a section, and what is not is named with its command."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dmzcli.reports.gather import WIDEST, gather
from dmzcli.runs import Run


def titles(file):
    return re.findall("<h2>(.*?)</h2>", Path(file).read_text(encoding="utf-8"))


def test_a_run_without_anything_but_weights(make_run, monkeypatch, dmz):
    monkeypatch.chdir(make_run(name="plain", model__latent="none", training__steps=2))
    made = dmz("report", "runs/plain", "--device", "cpu", "--json")
    assert made.code == 0, made.err
    assert made.json["absent"] == {
        "samples": "dmz sample --run runs/plain",
        "scores": "dmz evaluate --run runs/plain",
    }
    # The grid of the training stands in for reconstructions.
    assert titles(made.json["report"]) == ["Run", "Training", "Reconstructions", "Not there yet"]
    assert dmz("sample", "-n", "3", "--steps", "2", "--device", "cpu").code == 0
    again = dmz("report", "--device", "cpu", "--json").json
    assert again["sections"] == ["training", "reconstructions", "samples"]


def test_everything_that_a_run_holds_is_on_its_page(dmz, run):
    for command in (
        ("probe", "--no-baselines"),
        ("sample", "uniform", "-n", "5", "--steps", "2"),
        ("likelihood", "-n", "2", "--every", "4", "--prior", "bernoulli"),
        ("reconstruct", "-n", "4", "--steps", "2"),
    ):
        made = dmz(*command, "--run", run.path, *(() if command[0] == "probe" else ("--device", "cpu")))
        assert made.code == 0, made.err
    made = dmz("report", run.path, "--steps", "3", "--device", "cpu", "--json", "--out", "page.html")
    assert made.code == 0, made.err
    assert made.json["report"] == "page.html" and made.json["absent"] == {}
    assert titles("page.html") == [
        "Run",
        "Training",
        "Reconstructions",
        "Priors",
        "Samples",
        "Scores",
        "Probe",
    ]
    text = Path("page.html").read_text(encoding="utf-8")
    assert "uniform prior, ancestral, 2 steps, seed 0<" in text and "bits per dimension" in text
    assert "test images above reconstructions from their 8 bits; ancestral, 3 steps" in text
    assert (
        "psnr" in text
        and "reconstructions from bits and x_T" in text
        and "memorizes training codes" in text
        and "test confusion of the probe" in text
    )
    assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", text)


def test_a_run_whose_dataset_is_elsewhere_has_a_page(dmz, run):
    settings = json.loads(run.settings.read_text())
    settings["data"]["dataset"] = "pictures"
    run.settings.write_text(json.dumps(settings))
    made = dmz("report", run.path, "--device", "cpu")
    assert made.code == 0 and "no reconstructions: unknown dataset 'pictures'" in made.err
    assert "Priors" in titles(run.path / "report.html")
    error, _ = dmz(
        "report", run.path, "--data-dir", "nowhere"
    ).mistake()  # who names a place expects it there
    assert "pictures" in error or "nowhere" in error


def test_what_earlier_weights_made_is_marked(dmz, run, tiny, few):
    from dmzcli.training import train

    assert dmz("sample", "uniform", "-n", "2", "--steps", "2", "--device", "cpu").code == 0
    assert dmz("probe", "--no-baselines").code == 0
    before = gather(run)
    assert "earlier" not in before.about["bits"] and "other weights" not in before.samples[0][0]
    steps = run.config.training.steps
    longer = run.config.model_copy(
        update={"training": run.config.training.model_copy(update={"steps": steps + 2})}
    )
    from dmzcli.data import load

    train(longer, load("digits"), Run(run.path), "cpu")
    after = gather(Run(run.path))
    assert "of earlier weights: encode again" in after.about["bits"]
    assert "of other weights" in after.samples[0][0] and "other weights" in after.probes_note
    assert all("fit it again" in row["note"] for row in after.priors)


def test_a_huge_grid_is_reduced(dmz, run):
    assert dmz("sample", "uniform", "-n", "2", "--steps", "2", "--device", "cpu").code == 0
    (sheet,) = run.samples.glob("*/grid.png")
    Image.fromarray(np.zeros((100, 4000, 3), np.uint8)).save(sheet)
    ((_, image),) = gather(run).samples
    assert image.size == (WIDEST, 40)


def test_a_grid_that_is_none(dmz, run):
    assert dmz("sample", "uniform", "-n", "2", "--steps", "2", "--device", "cpu").code == 0
    (sheet,) = run.samples.glob("*/grid.png")
    sheet.write_bytes(sheet.read_bytes()[:40])
    assert f"{sheet} is no whole picture" in dmz("report", run.path).mistake()[0]
    sheet.unlink()
    os.mkfifo(sheet)
    assert f"{sheet} is not a file, but a FIFO" in dmz("report", run.path).mistake()[0]


def test_cards_of_reconstructions_before_they_said_from_what(dmz, run):
    card = run.path / "evaluation" / "reconstructions-ancestral-20-digits-test-aaaaaa.json"
    card.parent.mkdir()
    score = {"metric": "psnr", "value": 20.125, "error": 0.5, "interval_95": [19.0, 21.0]}
    facts = {"format": "dmz-reconstructions", "version": 1, "n": 12, "split": "test", "scores": [score]}
    card.write_text(json.dumps(facts))
    assert dmz("report", run.path, "--device", "cpu", "--out", "page.html").code == 0
    text = Path("page.html").read_text(encoding="utf-8")
    assert "20.12" in text and "12 of test" in text


@pytest.mark.parametrize("scores", ["many", [3], [{}], [{"metric": "x", "value": "y"}]])
def test_a_card_that_holds_other_things(dmz, run, scores):
    card = run.path / "evaluation" / "x.json"
    card.parent.mkdir(exist_ok=True)
    card.write_text(json.dumps({"format": "dmz-reconstructions", "scores": scores}))
    assert f"{card} is damaged" in dmz("report", run.path).mistake()[0]


def test_a_page_is_a_file(dmz, run):
    error, _ = dmz("report", run.path, "--out", ".").mistake()
    assert error == "error: --out '.' is a folder, not a file"


def test_a_table_that_lies_elsewhere_counts(dmz, run, tmp_path):
    """What encode --out wrote is known to its run; the run may be named by --run, as in other commands."""
    assert dmz("encode", "--run", run.path, "--out", tmp_path / "b.h5", "--device", "cpu").code == 0
    run.bits.unlink()
    made = dmz("report", "--run", run.path, "--steps", "2", "--device", "cpu", "--json")
    assert made.code == 0, made.err
    assert "bits" not in made.json["absent"]
    assert "two runs are named" in dmz("report", run.path, "--run", run.path).mistake()[0]
