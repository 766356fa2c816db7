"""A page on one run: self-contained HTML, every picture inline."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dmzcli.analysis.probes.linear import Probe
from dmzcli.codes.table import BitTable
from dmzcli.data import Dataset
from dmzcli.diffusion.samplers import create
from dmzcli.generation.decode import decode
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.system.files import atomic
from dmzcli.system.png import grid, to_pil

Array = np.ndarray

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.7rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #d8dee4;padding-bottom:.2rem}
table{border-collapse:collapse;margin:.5rem 0}
th,td{padding:.25rem .8rem;border-bottom:1px solid #d8dee4;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}figure{margin:.5rem 0}
figcaption{color:#57606a;font-size:.9rem}.pixel img{image-rendering:pixelated}
.row{display:flex;flex-wrap:wrap;gap:1.2rem}
"""


@dataclass(frozen=True)
class Page:
    """What the page tells of.

    Attributes:
        run: The run.
        dataset: What it was trained on.
        table: Its codes.
        probes: Of the bits first.
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


def _inline(image: Image.Image, alt: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def _figure(image: Image.Image, caption: str, pixel: bool = True) -> str:
    kind = ' class="pixel"' if pixel else ""
    return f"<figure{kind}>{_inline(image, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _html_table(rows: list[dict[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = ""
    for row in rows:
        cells = ""
        for value in row.values():
            numeric = isinstance(value, int | float)
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            cells += f'<td class="n">{shown}</td>' if numeric else f"<td>{html.escape(shown)}</td>"
        body += f"<tr>{cells}</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _plot(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots()


def _to_image(figure: Any) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return Image.open(buffer)


def training_curve(rows: list[dict[str, float]]) -> Image.Image:
    """Training and validation loss over steps."""
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
    return _to_image(figure)


def confusion_plot(probe: Probe, names: tuple[str, ...]) -> Image.Image:
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
    return _to_image(figure)


def reconstructions(
    model: Autoencoder, dataset: Dataset, table: BitTable, steps: int, count: int = 20
) -> Array:
    """Test images (first row) above their reconstructions from bits, as one sheet."""
    rows = dataset.rows("test")[:count]
    sampler = create("ancestral", model.config.diffusion, steps)
    made = decode(model, table.bits[rows], sampler, range(len(rows)), seed=0)
    return grid(np.concatenate([dataset.images[rows], made]), columns=len(rows))


def _about(page: Page, model: Autoencoder) -> str:
    config = page.run.config
    counts = {split: len(page.table.rows(split)) for split in ("train", "valid", "test")}
    facts = {
        "dataset": page.dataset.identity,
        "images": ", ".join(f"{count:,} {split}" for split, count in counts.items()),
        "bits": f"{page.table.dim}, {page.table.bits.mean():.3f} of them 1",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "training": f"{config.training.steps:,} steps of {config.training.batch_size} images",
        "weights (SHA-256)": page.run.weights_hash,
        "seed": str(config.training.seed),
    }
    return _html_table([{"": name, " ": value} for name, value in facts.items()])


def _priors(page: Page, steps: int) -> str:
    count = len(next(iter(page.samples.values())))
    note = (
        f"Of {count} samples a prior. A sample is plausible if it lies as near to its nearest training image as 95% "
        "of the test images lie to theirs; digits are counted among the plausible ones, by a classifier trained on "
        f"the training pixels (test accuracy {page.classifier_accuracy:.3f}). Held-out bits per code are measured on "
        "the valid split; fewer are better. The empirical prior resamples training codes: it memorises."
    )
    sheets = [
        _figure(to_pil(grid(images[:100], columns=10, scale=3)), f"{kind} prior, {steps} steps")
        for kind, images in page.samples.items()
    ]
    return f'{_html_table(page.priors)}<p>{note}</p><div class="row">{"".join(sheets)}</div>'


def _probes(page: Page) -> str:
    rows = [
        {
            "representation": p.name,
            "features": p.features,
            "test accuracy": round(p.test_accuracy, 4),
            "valid accuracy": round(p.valid_accuracy, 4),
        }
        for p in page.probes
    ]
    note = "Logistic regression, fitted on train, its strength chosen on valid, reported on test."
    plot = confusion_plot(page.probes[0], page.table.label_names)
    return (
        f"{_html_table(rows)}<p>{note}</p>{_figure(plot, 'test confusion of the probe on the bits', False)}"
    )


def write_report(page: Page, model: Autoencoder, steps: int = 20) -> Path:
    """Writes ``report.html`` into the run.

    Arguments:
        page: What to tell of.
        model: The run's, in evaluation mode.
        steps: T of the reconstructions and of the samples.

    Returns:
        The file.
    """
    curve = training_curve(page.run.read_metrics())
    sheet = to_pil(reconstructions(model, page.dataset, page.table, steps))
    caption = f"test images above reconstructions from their {page.table.dim} bits; ancestral, {steps} steps"
    sections = {
        "Run": _about(page, model),
        "Training": _figure(curve, "loss per step; validation on averaged weights and hard bits", False),
        "Reconstructions": _figure(sheet, caption),
        "Priors": _priors(page, steps),
        "Probe": _probes(page),
    }
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections.items())
    title = html.escape(f"dmz: {page.run.path.name}")
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}</body></html>"
    )
    file = page.run.path / "report.html"
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file
