"""A page on one run: self-contained HTML, every picture inline, and no section on what the run does not have."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from dmzcli.analysis.probes.linear import Probe
from dmzcli.codes.encode import bits_of
from dmzcli.data import SPLITS, Dataset
from dmzcli.data.dataset import spread
from dmzcli.diffusion.samplers import create
from dmzcli.generation.decode import decode
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.reports.html import write_page
from dmzcli.system.png import labelled_rows

Array = np.ndarray
Pictures = list[tuple[str, Image.Image]]
"""Captions and pictures."""


@dataclass(frozen=True)
class Page:
    """What the page tells of; what is empty has no section.

    Attributes:
        title: Its title.
        about: Facts of the run.
        curves: Loss over steps.
        reconstructions: Images above what their bits decode to.
        priors: One row of facts per prior.
        priors_note: What the rows mean.
        samples: Grids of samples.
        scores: One row per score.
        measures: Plots of measurements.
        probes: One row per probe.
        probes_note: What the rows mean.
        confusion: That of the probe on the bits.
        absent: What the run does not have yet, and the command that makes it.
    """

    title: str
    about: dict[str, Any]
    curves: Pictures = field(default_factory=list)
    reconstructions: Pictures = field(default_factory=list)
    priors: list[dict[str, Any]] = field(default_factory=list)
    priors_note: str = ""
    samples: Pictures = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    measures: Pictures = field(default_factory=list)
    probes: list[dict[str, Any]] = field(default_factory=list)
    probes_note: str = ""
    confusion: Pictures = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


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


def reconstructions(model: Autoencoder, dataset: Dataset, steps: int, count: int = 20) -> tuple[str, Array]:
    """Test images (valid or train where there are none) in rows, each above a row of their reconstructions from bits.

    Returns:
        The split, and the sheet.
    """
    split = next(name for name in reversed(SPLITS) if len(dataset.rows(name)))
    images = np.asarray(dataset.images[spread(dataset.rows(split), count)])
    sampler = create("ancestral", model.config.diffusion, steps)
    decoded = decode(model, bits_of(model, images), sampler, range(len(images)), seed=0)
    columns = max(4, min(10, 1000 // images.shape[2]))
    rows = []
    for start in range(0, len(images), columns):
        part = slice(start, start + columns)
        rows += [(f"{split} images", images[part]), ("reconstructions", decoded[part])]
    return split, labelled_rows(rows, columns)


def write_report(page: Page, file: Path) -> Path:
    """Writes the page into a file, whole or not at all.

    Returns:
        The file.
    """
    return write_page(file, "run.html", **vars(page))
