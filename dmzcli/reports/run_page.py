"""A page on one run: self-contained HTML, every picture inline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dmzcli.analysis.probes.linear import Probe
from dmzcli.codes.table import BitTable
from dmzcli.data import Dataset
from dmzcli.diffusion.samplers import create
from dmzcli.generation.decode import decode
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.reports.html import drawn, write_page
from dmzcli.runs import Run
from dmzcli.system.png import grid, to_pil

Array = np.ndarray


@dataclass(frozen=True)
class Page:
    """What the page tells of.

    Attributes:
        run: The run.
        dataset: What it was trained on.
        table: The codes of the dataset.
        probes: Results of the probes, that of the bits first.
        priors: One row of facts per prior.
        samples: Images (N, H, W, C) by prior.
        classifier_accuracy: Test accuracy of the classifier that judged the samples.
    """

    run: Run
    dataset: Dataset
    table: BitTable
    probes: list[Probe]
    priors: list[dict[str, Any]]
    samples: dict[str, Array]
    classifier_accuracy: float


def _plot(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots()


def training_curve(rows: list[dict[str, float]]) -> Figure:
    """Training and validation loss over steps, each where it was measured."""
    figure, axes = _plot(7.5, 3.2)
    for name, style in (("loss", "-"), ("valid_loss", "o-")):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(
                *zip(*points, strict=True), style, label=name.replace("_", " "), markersize=4, linewidth=1.4
            )
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3, which="both")
    if axes.lines:
        axes.legend()
    return figure


def confusion_plot(probe: Probe, names: tuple[str, ...]) -> Figure:
    """Counts of (true, predicted) classes as a heat map."""
    figure, axes = _plot(4.8, 4.4)
    axes.imshow(probe.confusion, cmap="Blues")
    limit = probe.confusion.max() / 2
    for (row, column), count in np.ndenumerate(probe.confusion):
        if count:
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if count > limit else "black",
            )
    ticks = range(len(names))
    axes.set(
        xlabel="predicted", ylabel="true", xticks=ticks, yticks=ticks, xticklabels=names, yticklabels=names
    )
    return figure


def reconstructions(
    model: Autoencoder, dataset: Dataset, table: BitTable, steps: int, count: int = 20
) -> Array:
    """Test images (first row) above their reconstructions from bits, as one sheet."""
    rows = dataset.rows("test")[:count]
    sampler = create("ancestral", model.config.diffusion, steps)
    decoded = decode(model, table.bits[rows], sampler, range(len(rows)), seed=0)
    return grid(np.concatenate([dataset.images[rows], decoded]), columns=len(rows))


def _about(page: Page, model: Autoencoder) -> dict[str, str]:
    config = page.run.config
    counts = {split: len(page.table.rows(split)) for split in ("train", "valid", "test")}
    return {
        "dataset": page.dataset.identity,
        "images": ", ".join(f"{count:,} {split}" for split, count in counts.items()),
        "bits": f"{page.table.dim}, {page.table.bits.mean():.3f} of them 1",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "training": f"{config.training.steps:,} steps of {config.training.batch_size} images",
        "weights (SHA-256)": page.run.weights_hash,
        "seed": str(config.training.seed),
    }


def _probes(probes: list[Probe]) -> list[dict[str, Any]]:
    return [
        {
            "representation": probe.name,
            "features": probe.features,
            "test accuracy": round(probe.test_accuracy, 4),
            "valid accuracy": round(probe.valid_accuracy, 4),
        }
        for probe in probes
    ]


def write_report(page: Page, model: Autoencoder, steps: int = 20) -> Path:
    """Writes ``report.html`` into the run.

    Arguments:
        page: What to tell of.
        model: The run's model, in evaluation mode.
        steps: T of the reconstructions and of the samples.

    Returns:
        The file.
    """
    return write_page(
        page.run.path / "report.html",
        "run.html",
        title=f"dmz: {page.run.path.name}",
        about=_about(page, model),
        curve=drawn(training_curve(page.run.read_metrics())),
        reconstructions=to_pil(reconstructions(model, page.dataset, page.table, steps)),
        bits=page.table.dim,
        steps=steps,
        priors=page.priors,
        samples_each=len(next(iter(page.samples.values()))),
        classifier_accuracy=page.classifier_accuracy,
        sheets={
            kind: to_pil(grid(images[:100], columns=10, scale=3)) for kind, images in page.samples.items()
        },
        probes=_probes(page.probes),
        confusion=drawn(confusion_plot(page.probes[0], page.table.label_names)),
    )
