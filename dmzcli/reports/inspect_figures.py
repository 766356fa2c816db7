"""The plots and pictures of the page on bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from dmzcli.analysis.inspector.code import Code
from dmzcli.analysis.inspector.gallery import Exhibit
from dmzcli.analysis.inspector.information import Curves
from dmzcli.analysis.inspector.inspect import Inspection
from dmzcli.system.png import labelled_rows

Array = np.ndarray
CURVES = {
    "true": "with the image's bits",
    "other": "with another image's bits",
    "prior": "with a prior's bits",
    "none": "a model without bits",
}
COLORS = {"true": "#0969da", "other": "#cf222e", "prior": "#9a6700", "none": "#1a7f37"}


def _plot(width: float, height: float) -> tuple[Figure, Any]:
    # As many inches as a phone is wide: its letters are to be read there, too.
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    return figure, figure.subplots()


def rates_plot(found: Inspection) -> Figure | None:
    """Frequency of each bit by class, in the code's clustered order; ``None`` without classes."""
    rates = {finding.bit: finding.rates for finding in found.findings if finding.factor == "class"}
    if not rates:
        return None
    order = [int(bit) for bit in found.code.order if int(bit) in rates]
    names = next(factor.values for factor in found.factors if factor.name == "class")
    values = np.array([[np.nan if r is None else r for r in rates[bit]] for bit in order]).T
    figure, axes = _plot(5.2, 1.2 + 0.24 * len(names))
    picture = axes.imshow(values, cmap="coolwarm", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set(xlabel="bit, dependent ones together", yticks=range(len(names)), yticklabels=names)
    _bit_ticks(axes, order)
    figure.colorbar(picture, ax=axes, label="frequency of 1")
    return figure


def _bit_ticks(axes: Any, order: list[int]) -> None:
    step = max(1, -(-len(order) // 16))
    axes.set_xticks(range(0, len(order), step), order[::step], fontsize=8, rotation=90)


def pairwise_plot(code: Code) -> Figure:
    """Mutual information of all pairs, in the clustered order."""
    matrix = np.clip(code.pairwise[np.ix_(code.order, code.order)], 0, None).copy()
    np.fill_diagonal(matrix, np.nan)
    figure, axes = _plot(5.2, 4.4)
    picture = axes.imshow(matrix, cmap="viridis", interpolation="nearest")
    axes.set(xlabel="bit", ylabel="bit")
    order = [int(bit) for bit in code.order]
    _bit_ticks(axes, order)
    axes.set_yticks([])
    figure.colorbar(picture, ax=axes, label="mutual information, bits")
    return figure


def distances_plot(code: Code) -> Figure:
    """Histograms of Hamming distances."""
    figure, axes = _plot(5.2, 2.8)
    at = np.arange(len(code.between))
    if code.within is not None and code.within.sum():
        axes.step(at, code.within / code.within.sum(), where="mid", label="within a class", color="#0969da")
    label = "all pairs" if code.within is None else "between classes"
    axes.step(at, code.between / max(1, code.between.sum()), where="mid", label=label, color="#cf222e")
    axes.set(xlabel="bits that differ", ylabel="share of pairs")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def losses_plot(curves: Curves) -> Figure:
    """Squared error of ε over the log-SNR, by what the denoiser was given."""
    figure, axes = _plot(5.2, 3.4)
    for name, losses in curves.losses.items():
        mean, error = losses.mean(0), 1.96 * losses.std(0, ddof=1) / np.sqrt(len(losses))
        axes.plot(curves.log_snr, mean, label=CURVES[name], color=COLORS[name], linewidth=1.4)
        axes.fill_between(curves.log_snr, mean - error, mean + error, color=COLORS[name], alpha=0.15)
    axes.set(xlabel="log-SNR: from noise to image", ylabel="squared error of ε, sum", yscale="log")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def nats_plot(curves: Curves) -> Figure:
    """½ ∫ of the losses' differences up to each log-SNR, with 95% intervals; I(x_t; z) by itself, being far smaller."""
    labels = {
        "none": "I(x_t; z): over a model without bits",
        "other": "upper bound: over another image's bits",
        "prior": "over a prior's bits",
    }
    panels = [["none"], ["other", "prior"]] if "none" in curves.losses else [["other", "prior"]]
    figure = Figure(figsize=(5.2, 0.6 + 2.6 * len(panels)), dpi=150, layout="constrained")
    for axes, names in zip(np.atleast_1d(figure.subplots(len(panels), 1, sharex=True)), panels, strict=True):
        for name in (name for name in names if name in curves.losses):
            mean, half = curves.information(name)
            axes.plot(curves.log_snr, mean, label=labels[name], color=COLORS[name], linewidth=1.4)
            axes.fill_between(curves.log_snr, mean - half, mean + half, color=COLORS[name], alpha=0.15)
        axes.set(ylabel="nats")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.axes[-1].set_xlabel("log-SNR: from noise to image")
    return figure


def share_plot(curves: Curves) -> Figure | None:
    """What each bit adds over time, the largest first; ``None`` where no bit was left out."""
    if not curves.bits:
        return None
    order = np.argsort(-curves.share[:, -1], kind="stable")
    rate = np.diff(curves.share[order], axis=1) / np.diff(curves.log_snr)
    figure, axes = _plot(5.2, 3.6)
    edges = curves.log_snr
    most = max(float(np.abs(rate).max()), 1e-9)
    picture = axes.pcolormesh(
        np.arange(len(order) + 1), edges, rate.T, cmap="RdBu_r", vmin=-most, vmax=most, shading="flat"
    )
    step = max(1, -(-len(order) // 16))
    axes.set_xticks(
        np.arange(0, len(order), step) + 0.5, np.array(curves.bits)[order][::step], fontsize=8, rotation=90
    )
    axes.set(xlabel="bit, the one that tells most first", ylabel="log-SNR")
    figure.colorbar(picture, ax=axes, label="nats per unit of log-SNR")
    return figure


def exhibit_sheet(exhibit: Exhibit, attention: dict[str, Array], most: float) -> Image.Image:
    """A bit's pictures: decoded at 0 and at 1, the mean difference, and its attention maps.

    Arguments:
        exhibit: The bit's images.
        attention: Maps (D, h, w) by layer.
        most: The difference in gray levels that is full red or blue.
    """
    count = len(exhibit.zero)
    rows = [("bit at 0", exhibit.zero), ("bit at 1", exhibit.one)]
    rows = [(name, np.repeat(images, 3, 3) if images.shape[3] == 1 else images) for name, images in rows]
    signed = np.clip(exhibit.difference.mean(2) / most, -1, 1)
    red = np.where(signed < 0, 1 + signed, 1.0)
    blue = np.where(signed > 0, 1 - signed, 1.0)
    colored = np.stack([red, np.minimum(red, blue), blue], 2)
    rows.append(("mean of 1 - 0, red is brighter", (255 * colored).astype(np.uint8)[None]))
    size = exhibit.zero.shape[1]
    maps = []
    for weights in attention.values():
        shade = weights[exhibit.bit] / max(float(weights.max()), 1e-12)
        gray = Image.fromarray((255 * shade).astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
        maps.append(np.repeat(np.asarray(gray)[..., None], 3, 2))
    for start in range(0, len(maps), count):
        names = [name.replace("put_", "") for name in attention][start : start + count]
        rows.append((f"attention {' '.join(names)}", np.stack(maps[start : start + count])))
    return Image.fromarray(labelled_rows(rows, max(count, 4)))
