"""What steps buy: a score over the number of denoising steps, by sampler and by where the bits are from.

Bits come from a prior, from real images of the test split (the best that any prior could do), or from nothing: a plain
diffusion model of the same kind. Every cell of the table is an evaluation card of its own, so that an interrupted
sweep goes on where it stopped; cells with few steps are made first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.autoencoder import Autoencoder, pick_bits
from dmzcli.batches import spread
from dmzcli.data import Dataset
from dmzcli.encoding import probabilities_of
from dmzcli.errors import UserError
from dmzcli.evaluation.evaluate import FEWEST, evaluate
from dmzcli.evaluation.features import Extractor
from dmzcli.evaluation.image_sets import ImageSet
from dmzcli.files import atomic, read_json, write_json
from dmzcli.generation import decode, usual_batch
from dmzcli.interrupts import Interrupted, collected
from dmzcli.pictures import grid, write_png
from dmzcli.progress import Silence, Talk
from dmzcli.runs import Run
from dmzcli.samplers import Sampler, create
from dmzcli.sampling import draw_bits

Array = np.ndarray
STRIP = 10
"""Images of a cell that are kept as a picture."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a row's bits are from.

    Attributes:
        name: For tables: a prior's kind, ``encoded``, or ``plain``.
        run: Whose model decodes them.
        model: That model, in evaluation mode.
        bits: uint8 (N, D), or ``None`` for a plain diffusion model.
        sha256: Of the prior's tensors; of the images' identity for encoded bits.
    """

    name: str
    run: Run
    model: Autoencoder
    bits: Array | None
    sha256: str


@dataclass(frozen=True)
class Cell:
    """One score of the table.

    Attributes:
        source, sampler, steps: Which.
        value, error: The score and its standard error.
    """

    source: str
    sampler: str
    steps: int
    value: float
    error: float


@dataclass(frozen=True)
class Sweep:
    """The table.

    Attributes:
        metric: Name of the score.
        cells: In the order in which they were made.
        real: The score of as many real images of the test split; what a perfect sampler would get.
        facts: Everything that the scores depend on.
    """

    metric: str
    cells: tuple[Cell, ...]
    real: float
    facts: dict[str, Any]

    def table(self) -> list[dict[str, Any]]:
        """One row per source and sampler, one column per T."""
        steps = sorted({cell.steps for cell in self.cells})
        rows = []
        for source, sampler in dict.fromkeys((cell.source, cell.sampler) for cell in self.cells):
            found = {c.steps: c for c in self.cells if (c.source, c.sampler) == (source, sampler)}
            shown = {
                f"T={t}": f"{found[t].value:.4g} ± {1.96 * found[t].error:.2g}" if t in found else ""
                for t in steps
            }
            rows.append({"bits": source, "sampler": sampler, **shown})
        return rows


def prior_source(run: Run, model: Autoencoder, prior: str | None, count: int, seed: int) -> Source:
    """Bits drawn from a run's prior (``None``: its newest)."""
    codes = draw_bits(run, model.dim, prior, count, seed)
    return Source(codes.name, run, model, codes.bits, codes.sha256)


def encoded_source(run: Run, model: Autoencoder, dataset: Dataset, count: int) -> Source:
    """The most probable bits of real test images, evenly spread; repeated in turn where there are too few."""
    rows = spread(dataset.rows("test"), count)
    if not len(rows):
        raise UserError(f"{dataset.name} has no test images to encode", "leave encoded out of --bits")
    codes = pick_bits(torch.from_numpy(probabilities_of(model, dataset.images[rows]))).numpy()
    return Source("encoded", run, model, codes[np.arange(count) % len(codes)], dataset.identity)


def plain_source(run: Run, model: Autoencoder) -> Source:
    """No bits: a model with latent ``none``."""
    if model.dim:
        raise UserError(
            f"{run.path} is no plain diffusion model: it has {model.dim} bits", "train one with --latent none"
        )
    return Source("plain", run, model, None, "")


def is_plain_twin(other: Run, run: Run) -> bool:
    """Whether a run is a plain diffusion model of the same images as ``run``."""
    return (
        other.config.model.latent == "none"
        and other.config.experiment()["data"] == run.config.experiment()["data"]
    )


def sweep(
    sources: Sequence[Source],
    samplers: Sequence[str],
    steps: Sequence[int],
    count: int,
    dataset: Dataset,
    split: str,
    extractor: Extractor,
    out: Path,
    seed: int = 0,
    batch_size: int | None = None,
    precision: str = "no",
    talk: Talk | None = None,
) -> Sweep:
    """Makes every cell and writes ``cards/``, ``sweep.json``, ``sweep.md`` and ``sweep.png``.

    Arguments:
        sources: The rows' bits, ``count`` codes each.
        samplers: Names.
        steps: The numbers of network evaluations T.
        count: Images per cell.
        dataset: Holds the reference.
        split: The reference's; best not the test split, where encoded bits are from.
        extractor: The features.
        out: The folder.
        seed: Of the noise.
        batch_size: Images at a time; ``None`` for what suits the device.
        precision: Of the network's evaluations, ``no`` or ``bf16``.
        talk: Who listens.

    Raises:
        UserError: A sampler or number of steps does not fit; before anything is made.
        Interrupted: SIGINT or SIGTERM came; finished cells are kept.
    """
    talk = talk or Silence()
    if count < FEWEST:
        raise UserError(f"--count {count} is too few for a score", f"at least {FEWEST} are needed")
    todo: list[tuple[Source, str, int, Sampler]] = [
        (source, name, t, create(name, source.model.config.diffusion, t))
        for t in sorted(set(steps))
        for name in samplers
        for source in sources
    ]
    metric = extractor.metric("fid")
    facts: dict[str, Any] = {
        "metric": metric,
        "count": count,
        "seed": seed,
        "precision": precision,
        "reference": {"dataset": dataset.identity, "split": split, "lossy": dataset.lossy},
        "extractor": {"name": extractor.name, "sha256": extractor.sha256, **extractor.facts},
    }
    real = dataset.images[spread(dataset.rows("test" if len(dataset.rows("test")) else split), count)]
    floor = evaluate(ImageSet(real, "real images", "array"), dataset, split, extractor, ("fid",), talk=talk)
    cells = []
    with collected() as signals, talk.task("cells", len(todo)) as advance:
        for done, (source, name, t, sampler) in enumerate(todo):
            made = {
                "weights": source.run.weights_hash,
                "bits": source.name,
                "bits_sha256": source.sha256,
                "sampler": name,
                "steps": t,
                "seed": seed,
                "precision": precision,
            }
            cells.append(
                _cell(source, sampler, made, facts, dataset, split, extractor, out, batch_size, talk)
            )
            advance(done + 1, f"{source.name} {name} T={t}: {cells[-1].value:.4g}")
            table = Sweep(metric, tuple(cells), floor.scores[0].value, facts)
            write(table, out)
            if signals:
                raise Interrupted(signals[0], "finished cells are kept; run the same command to go on")
    return table


def _cell(
    source: Source,
    sampler: Sampler,
    made: dict[str, Any],
    facts: dict[str, Any],
    dataset: Dataset,
    split: str,
    extractor: Extractor,
    out: Path,
    batch_size: int | None,
    talk: Talk,
) -> Cell:
    """One cell: from its card if there is one of the same making, else made."""
    name, t = made["sampler"], made["steps"]
    file = out / "cards" / f"{source.name}-{name}-{t:03d}.json"
    wanted = {**facts, **made}
    if file.exists():
        card = read_json(file)
        if card.get("sweep") == wanted:
            score = card["scores"][0]
            return Cell(source.name, name, t, score["value"], score["error"])
    count = facts["count"]
    with talk.task(f"{source.name} {name} T={t}", count) as advance:
        images = decode(
            source.model,
            source.bits,
            sampler,
            range(count),
            made["seed"],
            batch_size or usual_batch(source.model),
            lambda n: advance(n, ""),
            made["precision"],
        )
    samples = ImageSet(images, f"{source.name} {name} T={t}", "array", made=made)
    found = evaluate(samples, dataset, split, extractor, ("fid",), made["seed"])
    write_png(file.with_suffix(".png"), grid(images[:STRIP], columns=STRIP))
    write_json(file, {**found.facts(), "sweep": wanted})
    return Cell(source.name, name, t, found.scores[0].value, found.scores[0].error)


def write(table: Sweep, out: Path) -> None:
    """Writes the table as JSON, Markdown and a plot."""
    cells = [asdict(cell) for cell in table.cells]
    write_json(out / "sweep.json", {**table.facts, "real": table.real, "cells": cells})
    rows = table.table()
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    with atomic(out / "sweep.md") as temporary:
        temporary.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")
    with atomic(out / "sweep.png") as temporary:
        _figure(table).savefig(temporary, format="png")


def _figure(table: Sweep) -> Any:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(cell.sampler for cell in table.cells))
    figure = Figure(figsize=(1 + 4 * len(names), 4), dpi=110, layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        for source in dict.fromkeys(cell.source for cell in table.cells):
            found = [cell for cell in table.cells if (cell.source, cell.sampler) == (source, name)]
            if found:
                axes.errorbar(*_points(found), marker="o", capsize=2, label=source)
        axes.axhline(table.real, color="grey", linestyle=":", label="real test images")
        ticks = sorted({cell.steps for cell in table.cells})
        axes.set(title=name, xlabel="T, network evaluations", xscale="log", yscale="log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axes.minorticks_off()
    figure.axes[0].set_ylabel(f"{table.metric}, {table.facts['count']:,} images")
    figure.axes[0].legend()
    return figure


def _points(cells: Iterable[Cell]) -> tuple[list[int], list[float], list[float]]:
    ordered = sorted(cells, key=lambda cell: cell.steps)
    return [c.steps for c in ordered], [c.value for c in ordered], [1.96 * c.error for c in ordered]
