"""The demonstration: the whole path on the embedded digits, ending in numbers and a page."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import priors
from dmzcli import data
from dmzcli.analysis.probes.table import probe_table, write_probes
from dmzcli.codes.draw import draw_bits
from dmzcli.codes.encode import encode
from dmzcli.codes.fit import fit
from dmzcli.config import Config
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.samples import Samples, sample
from dmzcli.reports.gather import gather
from dmzcli.reports.run_page import write_report
from dmzcli.runs import Run
from dmzcli.runs.plan import plan
from dmzcli.system.devices import pick
from dmzcli.system.locks import hold
from dmzcli.system.progress import Talk
from dmzcli.training import train
from dmzcli.training.usual import within

MINUTES = 1.6
"""What training takes at most where :data:`FEWEST_STEPS` allow it: some two fifths of four minutes."""
FEWEST_STEPS = 600
SAMPLES = 200
STEPS = 20
JUDGED = (
    "Of {count} samples a prior. A sample is plausible if it lies as near to its nearest training image as 95% of the "
    "test images lie to theirs; digits are counted among the plausible ones, by a classifier trained on the training "
    "pixels (test accuracy {accuracy:.3f}). The empirical prior resamples training codes: it memorizes."
)
"""What the demo's numbers of each prior mean."""


class Judge:
    """Says which digit an image shows, and whether it looks like one at all; trained on the training pixels.

    The digit is a support vector machine's. An image is plausible if it lies as near to its nearest training image as
    95% of the test images lie to theirs: a classifier alone finds digits in noise, too.

    Attributes:
        accuracy: The classifier's, on test.
    """

    def __init__(self, dataset: data.Dataset) -> None:
        from sklearn.neighbors import NearestNeighbors
        from sklearn.svm import SVC

        assert dataset.labels is not None
        train, test = dataset.rows("train"), dataset.rows("test")
        pixels = _flat(dataset.images)
        self._classifier = SVC(gamma="scale", C=10.0).fit(pixels[train], dataset.labels[train])
        self._neighbors = NearestNeighbors(n_neighbors=1).fit(pixels[train])
        self._radius = float(np.quantile(self._neighbors.kneighbors(pixels[test])[0], 0.95))
        self.accuracy = float(self._classifier.score(pixels[test], dataset.labels[test]))

    def __call__(self, images: np.ndarray) -> dict[str, Any]:
        """Facts of images (N, H, W, C): the plausible share, and how often which digit is among the plausible."""
        pixels = _flat(images)
        plausible = self._neighbors.kneighbors(pixels)[0][:, 0] <= self._radius
        counts = np.bincount(self._classifier.predict(pixels)[plausible], minlength=10)
        return {
            "plausible samples": f"{plausible.mean():.1%}",
            "digits among them": int((counts > 0).sum()),
            "rarest": int(counts.min()),
            "commonest": int(counts.max()),
        }


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255.0


def run_demo(
    directory: Path, max_steps: int | None, seed: int, device: str | None, talk: Talk
) -> dict[str, Any]:
    """Runs the demonstration; see the command.

    Returns:
        Facts, with the table of results under ``results``.
    """
    started = time.monotonic()
    draft = plan("digits", "digits", {"training": {"steps": max_steps, "seed": seed}}, [])
    dataset = data.load("digits")
    config = draft.config.resolved(dataset.images.shape[1], dataset.images.shape[3])
    run = draft.directory(config, directory)
    if max_steps is None:
        if run.settings.exists():  # the same command again: what was measured then
            config = run.config
        else:
            config, _ = within(config, device, MINUTES, FEWEST_STEPS, config.training.steps, talk)
    with hold(run.path, folder=True):
        return _run(config, dataset, run, seed, device, talk, started)


def _run(
    config: Config, dataset: data.Dataset, run: Run, seed: int, device: str | None, talk: Talk, started: float
) -> dict[str, Any]:
    """The same under the run's lock."""
    talk.say(f"1/5 training on {dataset.identity}")
    outcome = train(config, dataset, run, device, None, talk)
    where = pick(device)
    model = run.load_model(where)
    talk.say("2/5 encoding")
    table = encode(model, dataset, run.bits, run.weights_hash, talk=talk).table
    kinds = [*priors.automatic(), "empirical"]
    talk.say(f"3/5 fitting {len(kinds)} priors")
    for kind in kinds:
        fit(table, run.bits, kind, seed=seed, out=run.priors / kind, talk=talk)
    talk.say(f"4/5 sampling {SAMPLES} images of each")
    judge = Judge(dataset)
    recipe = Recipe(steps=STEPS).resolved(config.diffusion)
    results: list[dict[str, Any]] = []
    for kind in kinds:
        source = draw_bits(run, model.dim, kind, SAMPLES, seed)
        samples = Samples(run.weights_hash, kind, source.sha256, SAMPLES, recipe, seed)
        images = sample(model, source.bits, samples, run.samples / samples.folder_name(), talk=talk)
        report = priors.load(run.priors / kind).report
        assert report is not None
        held_out = round(report.valid_bits_per_code, 2)
        results.append({"prior": kind, "held-out bits per code": held_out, **judge(images)})
    results.append(
        {
            "prior": "(test images)",
            "held-out bits per code": "",
            **judge(dataset.images[dataset.rows("test")]),
        }
    )
    talk.say("5/5 probing")
    probes = probe_table(table, dataset, config, where, talk)
    facts = {"bits": str(run.bits), "dataset": table.dataset, "probes": [p.facts() for p in probes]}
    write_probes(run.path / "evaluation" / "probe-bits.json", table, facts)
    page = gather(run, dataset, model, STEPS)
    note = f"{JUDGED.format(count=SAMPLES, accuracy=judge.accuracy)} {page.priors_note}"
    file = write_report(replace(page, priors=results, priors_note=note, absent={}), run.path / "report.html")
    return {
        "run": str(run.path),
        "report": str(file),
        "seconds": time.monotonic() - started,
        "training": vars(outcome),
        "probes": [p.facts() for p in probes],
        "results": [
            *[
                {"what": f"probe of {p.name}", "value": f"{p.test_accuracy:.3f} test accuracy"}
                for p in probes
            ],
            *[
                {
                    "what": f"samples, {row['prior']}",
                    "value": f"{row['digits among them']} of 10 digits, {row['plausible samples']} plausible",
                }
                for row in results
            ],
        ],
        "priors": results,
    }
