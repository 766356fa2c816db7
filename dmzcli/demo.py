"""The demonstration: the whole path on the embedded digits, ending in numbers and a page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import priors
from dmzcli import data
from dmzcli.console import Console
from dmzcli.devices import pick
from dmzcli.encoding import encode
from dmzcli.planning import plan
from dmzcli.prior_fitting import fit
from dmzcli.probing import probe_table
from dmzcli.report import Page, write_report
from dmzcli.sampling import Plan, draw_bits, sample
from dmzcli.training import train

SAMPLES = 200
STEPS = 20


def pixel_classifier(dataset: data.Dataset) -> Any:
    """A classifier of the digits trained on the training pixels: a support vector machine, RBF kernel."""
    from sklearn.svm import SVC

    rows = dataset.rows("train")
    return SVC(gamma="scale", C=10.0).fit(_flat(dataset.images[rows]), dataset.labels[rows])  # type: ignore[index]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255.0


def run_demo(
    directory: Path, max_steps: int | None, seed: int, device: str | None, talk: Console
) -> dict[str, Any]:
    """Runs the demonstration; see the command.

    Returns:
        Facts, with the table of results under ``results``.
    """
    started = time.monotonic()
    wanted = plan("digits", "digits", {"training": {"steps": max_steps, "seed": seed}}, [])
    dataset = data.load("digits")
    config = wanted.config.resolved(dataset.images.shape[1], dataset.images.shape[3])
    run = wanted.directory(config, directory)
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
    classifier = pixel_classifier(dataset)
    results: list[dict[str, Any]] = []
    grids: dict[str, np.ndarray] = {}
    for kind in kinds:
        source = draw_bits(run, model.dim, kind, SAMPLES, seed)
        recipe = Plan(run.weights_hash, kind, source.sha256, SAMPLES, seed, steps=STEPS)
        images = sample(model, source.bits, recipe, run.samples / recipe.folder_name(), SAMPLES, talk)
        counts = np.bincount(classifier.predict(_flat(images)), minlength=10)
        report = priors.load(run.priors / kind).report
        assert report is not None
        grids[kind] = images
        results.append(
            {
                "prior": kind,
                "held-out bits per code": round(report.valid_bits_per_code, 2),
                "digits among samples": int((counts > 0).sum()),
                "rarest digit": int(counts.min()),
                "commonest digit": int(counts.max()),
            }
        )
    talk.say("5/5 probing")
    probes = probe_table(table, dataset, config, where, talk)
    page = Page(run, dataset, table, probes, results, grids, classifier_accuracy(classifier, dataset))
    file = write_report(page, model)
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
                    "what": f"samples, {row['prior']} prior",
                    "value": f"{row['digits among samples']} of 10 digits; "
                    f"{row['held-out bits per code']} held-out bits per code",
                }
                for row in results
            ],
        ],
        "priors": results,
    }


def classifier_accuracy(classifier: Any, dataset: data.Dataset) -> float:
    """Accuracy of the pixel classifier on the test split."""
    rows = dataset.rows("test")
    return float(classifier.score(_flat(dataset.images[rows]), dataset.labels[rows]))  # type: ignore[index]
