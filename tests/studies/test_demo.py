"""The demonstration, made short: all of it, twice, and the page that it ends in."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import priors
from dmzcli.studies import demo
from dmzcli.studies.demo import Judge


@pytest.fixture(scope="module")
def tiny_preset(tiny):
    """The digits preset at test size."""
    tree = tiny(training__steps=6).model_dump(mode="json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dmzcli.config.overrides.presets", lambda: {"digits": tree})
        patch.setattr("dmzcli.runs.plan.presets", lambda: {"digits": tree})
        patch.setattr(demo, "SAMPLES", 12)
        patch.setattr(demo, "STEPS", 3)
        patch.setattr(priors, "automatic", lambda: ["bernoulli", "chow-liu"])
        patch.setattr("dmzcli.analysis.probes.linear.INVERSE_STRENGTHS", (1.0,))
        yield


@pytest.fixture(scope="module")
def ended(tiny_preset, tmp_path_factory):
    """The facts of a demonstration, and its folder."""
    from dmzcli.commands.console import Console

    folder = tmp_path_factory.mktemp("demo") / "run"
    with pytest.MonkeyPatch.context() as patch:  # a machine that is fast enough for all steps
        patch.setattr("dmzcli.training.usual.measure", lambda *a: {"seconds_per_1000_steps": 1.0})
        return demo.run_demo(folder, None, 0, "cpu", Console(quiet=True)), folder


class Page(HTMLParser):
    """What a page is made of, and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.titles, self.alts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [facts[name] for name in ("src", "href") if name in facts]
        if tag == "img":
            self.alts.append(facts.get("alt"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


def test_a_page_of_its_own(ended):
    facts, folder = ended
    file = folder / "report.html"
    assert facts["report"] == str(file)
    page = Page(file.read_text(encoding="utf-8"))
    assert page.open == []  # every element is closed
    assert page.titles == ["Run", "Training", "Reconstructions", "Priors", "Samples", "Probe"]
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(page.alts)
    assert not re.search(r"https?://", file.read_text(encoding="utf-8"))


def test_results_of_every_prior_and_probe(ended):
    facts, folder = ended
    kinds = [*priors.automatic(), "empirical"]
    assert [row["prior"] for row in facts["priors"]][: len(kinds)] == kinds
    assert [p["name"] for p in facts["probes"]] == ["bits", "untrained bits", "pixels"]
    assert len(facts["results"]) >= len(kinds) + 3
    assert {file.parent.name for file in (folder / "priors").glob("*/prior.json")} == set(kinds)
    assert len(list((folder / "samples").glob("*/samples.json"))) == len(kinds)
    json.dumps(facts, allow_nan=False)


def test_the_command_again_resumes(ended, tiny_preset, dmz):
    facts, folder = ended
    cards = {file: file.stat().st_mtime_ns for file in folder.glob("samples/*/images/*.png")}
    again = dmz("demo", "--run", folder, "--device", "cpu", "--json")
    assert again.code == 0, again.err
    assert again.json["priors"] == facts["priors"] and again.json["training"]["images_per_second"] is None
    assert {file: file.stat().st_mtime_ns for file in folder.glob("samples/*/images/*.png")} == cards


def test_more_steps_go_on_in_the_same_folder(ended, tiny_preset, dmz):
    _, folder = ended
    longer = dmz("demo", "--run", folder, "--max-steps", "8", "--device", "cpu", "--json")
    assert longer.code == 0, longer.err
    assert longer.json["training"]["step"] == 8


def test_digits_are_plausible_and_noise_is_not(digits):
    """By construction 95 % of the test images are near enough to a training image."""
    judge = Judge(digits)
    assert judge.accuracy > 0.95
    test = judge(digits.images[digits.rows("test")])
    assert test["digits among them"] == 10 and float(test["plausible samples"].rstrip("%")) == pytest.approx(
        95, abs=0.3
    )
    noise = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)
    assert judge(noise)["plausible samples"] == "0.0%"


def test_files_of_the_run(ended):
    _, folder = ended
    assert {"config.json", "model.safetensors", "metrics.jsonl", "bits.h5", "report.html"} <= {
        file.name for file in Path(folder).iterdir()
    }


def test_a_slow_machine_takes_fewer_steps_and_keeps_to_them(tiny_preset, tmp_path, monkeypatch):
    """At 1 s a step two steps fit in 2 s; the second time nothing is measured, and the run is finished already."""
    from dmzcli.commands.console import Console
    from dmzcli.training import usual

    monkeypatch.setattr(usual, "measure", lambda *a: {"seconds_per_1000_steps": 1000.0})
    monkeypatch.setattr(demo, "MINUTES", 2 / 60)
    monkeypatch.setattr(demo, "FEWEST_STEPS", 1)
    talk = Console(quiet=True)
    assert demo.run_demo(tmp_path / "run", None, 0, "cpu", talk)["training"]["step"] == 2
    monkeypatch.setattr(usual, "measure", None)
    assert demo.run_demo(tmp_path / "run", None, 0, "cpu", talk)["training"]["step"] == 2
