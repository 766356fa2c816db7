"""What steps buy: a score over the number of denoising steps, by sampler and by where the bits are from.

Bits come from a prior, from real images of the test split (the best that any prior could do), or from nothing: a plain
diffusion model of the same kind. Every cell of the table is an evaluation card of its own, so that an interrupted
sweep goes on where it stopped; cells with few steps are made first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.codes.draw import check_prefix, draw_bits, with_absent
from dmzcli.codes.encode import bits_of
from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.diffusion.samplers import sampler_class
from dmzcli.errors import UserError
from dmzcli.evaluation.card import evaluate
from dmzcli.evaluation.features import FEWEST, Extractor
from dmzcli.evaluation.image_sets import ImageSet
from dmzcli.generation.decode import decode, usual_batch
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.latents import ABSENT
from dmzcli.runs import Run
from dmzcli.runs.find import ROOT, runs_in
from dmzcli.system.files import atomic, read_json, write_json, write_markdown
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.locks import hold
from dmzcli.system.png import grid, write_png
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray
PLAIN = "plain"
"""Name of the source without bits."""
YOUNGER = ("timesteps", "guidance", "guidance_interval")
"""What a card says of a recipe where it is not the usual."""
STRIP = 10
"""Images of a cell that are kept as a picture."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a row's bits are from.

    Attributes:
        name: Name in tables: a prior's kind, ``encoded``, or ``plain``.
        run: The run whose model decodes them.
        model: That model, in evaluation mode.
        bits: uint8 (N, D), or ``None`` for a plain diffusion model.
        sha256: SHA-256 of the prior's tensors; of the codes for encoded bits.
        strata: The class that each code was asked for, int64 (N,); ``None`` where none was.
    """

    name: str
    run: Run
    model: Autoencoder
    bits: Array | None
    sha256: str
    strata: Array | None = None


@dataclass(frozen=True)
class Cell:
    """One score of the table.

    Attributes:
        source, sampler, steps: Where its bits are from, and how they were decoded.
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
        cells: The scores, in the order in which they were taken.
        real: The score of real images of the test split, which no model made; ``None`` without such a split.
        real_count: Number of those: the cells' count, or as many as there are.
        facts: Everything that the scores depend on.
    """

    metric: str
    cells: tuple[Cell, ...]
    real: float | None
    real_count: int
    facts: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        cells = [asdict(cell) for cell in self.cells]
        return {"real": self.real, "real_count": self.real_count, **self.facts, "cells": cells}

    def table(self) -> list[dict[str, Any]]:
        """One row per source and sampler, one column per T."""
        steps = sorted({cell.steps for cell in self.cells})
        rows = []
        for source, sampler in dict.fromkeys((cell.source, cell.sampler) for cell in self.cells):
            row = {c.steps: c for c in self.cells if (c.source, c.sampler) == (source, sampler)}
            shown = {
                f"T={t}": f"{row[t].value:.4g} ± {1.96 * row[t].error:.2g}" if t in row else "" for t in steps
            }
            rows.append({"bits": source, "sampler": sampler, **shown})
        return rows


def prior_source(
    run: Run, model: Autoencoder, prior: str | None, count: int, seed: int, prefix: int | None = None
) -> Source:
    """Bits drawn from a run's prior (``None``: its newest); of nested bits so many of the first."""
    codes = draw_bits(run, model.dim, prior, count, seed, prefix=prefix)
    return Source(codes.name, run, model, codes.bits, codes.sha256, codes.conditions.labels)


def encoded_source(
    run: Run, model: Autoencoder, dataset: Dataset, count: int, prefix: int | None = None
) -> Source:
    """The most probable bits of real test images, evenly spread; repeated in turn where there are too few.

    Of nested bits so many of the first.
    """
    rows = spread(dataset.rows("test"), count)
    if not len(rows):
        raise UserError(f"{dataset.name} has no test images to encode", "leave encoded out of --bits")
    codes = bits_of(model, dataset.images[rows])
    bits = codes[np.arange(count) % len(codes)]
    name = "encoded"
    if prefix is not None:
        check_prefix(run.config, prefix, model.dim)
        bits, name = with_absent(bits[:, :prefix], model.dim), f"encoded-prefix-{prefix}"
    return Source(name, run, model, bits, hashlib.sha256(bits.tobytes()).hexdigest())


def plain_source(run: Run, model: Autoencoder, count: int = 0) -> Source:
    """No bits: a model with latent ``none``, or one of nested bits with ``count`` codes that have none."""
    if model.config.model.nested:
        return Source(PLAIN, run, model, np.full((count, model.dim), ABSENT, np.uint8), "")
    if model.dim:
        raise UserError(
            f"{run.path} is no plain diffusion model: it has {model.dim} bits", "train one with --latent none"
        )
    return Source(PLAIN, run, model, None, "")


def find_plain(run: Run, root: Path = ROOT) -> Run | None:
    """The newest plain diffusion model of the same images, in ``root`` or beside ``run``; ``None`` if there is none."""

    def is_twin(other: Run) -> bool:
        plain = not other.config.model.dim
        return plain and other.config.experiment()["data"] == run.config.experiment()["data"]

    others = {run.path.resolve(): run for place in (root, run.path.parent) for run in runs_in(place)}
    return max(filter(is_twin, others.values()), key=lambda r: r.weights.stat().st_mtime_ns, default=None)


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
    recipe: Recipe = Recipe(),  # noqa: B008
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
        seed: Seed of the noise.
        batch_size: Images at a time; ``None`` for what suits the device.
        recipe: All else that says how to sample.
        talk: Receives progress.

    Raises:
        UserError: A sampler, number of steps or spacing does not fit, or another command writes the folder; before any
            image of a cell is sampled.
        Interrupted: SIGINT or SIGTERM came; finished cells are kept.
    """
    talk = talk or Silence()
    recipes = check(samplers, steps, count, [source.run for source in sources], recipe)
    cells_to_come = [(source, each) for each in recipes for source in _told_apart(sources)]
    facts: dict[str, Any] = {
        "metric": extractor.metric("fid"),
        "count": count,
        "seed": seed,
        "precision": recipe.precision,
        "reference": {"dataset": dataset.identity, "split": split, "lossy": dataset.lossy},
        "extractor": {"name": extractor.name, "sha256": extractor.sha256, **extractor.facts},
    }
    real, real_count = _real(dataset, split, count, extractor, talk)
    cells: list[Cell] = []
    with hold(out, folder=True), collected() as signals, talk.task("cells", len(cells_to_come)) as advance:

        def stop() -> None:
            if signals:
                raise Interrupted(signals[0], "finished cells are kept; run the same command to go on")

        for done, (source, each) in enumerate(cells_to_come):
            cell = _cell(source, each, facts, dataset, split, extractor, out, batch_size, talk, stop)
            cells.append(cell)
            advance(done + 1, f"{cell.source} {cell.sampler} T={cell.steps}: {cell.value:.4g}")
            table = Sweep(facts["metric"], tuple(cells), real, real_count, facts)
            write(table, out)
            stop()
    return table


def check(
    samplers: Sequence[str],
    steps: Sequence[int],
    count: int,
    runs: Sequence[Run],
    recipe: Recipe,
) -> list[Recipe]:
    """The recipes to sweep, those with few steps first.

    Raises:
        UserError: There is nothing to do, or a sampler cannot take a number of steps.
    """
    if not (samplers and steps and runs):
        raise UserError(
            "there is nothing to sweep", "name samplers, numbers of steps, and where bits are from"
        )
    if count < FEWEST:
        raise UserError(f"--count {count} is too few for a score", f"at least {FEWEST} are needed")
    names = dict.fromkeys(samplers)
    recipes = [replace(recipe, sampler=name, steps=t) for t in sorted(set(steps)) for name in names]
    for each in recipes:
        for run in runs:
            each.of(run).create(run.config.diffusion)
            if run.config.model.dim:
                each.guided(run.config)
    return recipes


def _told_apart(sources: Sequence[Source]) -> list[Source]:
    """Sources under names of their own: two priors of one kind are told apart by their hashes."""
    distinct = {(source.name, source.sha256): source for source in sources}.values()
    names = [source.name for source in distinct]
    return [
        replace(source, name=f"{source.name}-{hashlib.sha256(source.sha256.encode()).hexdigest()[:6]}")
        if names.count(source.name) > 1
        else source
        for source in distinct
    ]


def _real(
    dataset: Dataset, split: str, count: int, extractor: Extractor, talk: Talk
) -> tuple[float | None, int]:
    """The score of real images that are not in the reference, and how many they are."""
    rows = spread(dataset.rows("test"), count)
    if split == "test" or len(rows) < FEWEST:
        return None, 0
    if len(rows) < count:
        talk.say(
            f"{dataset.name} has {len(rows):,} test images: their score, and encoded bits, are of these alone"
        )
    images = ImageSet(dataset.images[rows], "real images", "array")
    return evaluate(images, dataset, split, extractor, ("fid",), talk=talk).scores[0].value, len(rows)


def _cell(
    source: Source,
    recipe: Recipe,
    facts: dict[str, Any],
    dataset: Dataset,
    split: str,
    extractor: Extractor,
    out: Path,
    batch_size: int | None,
    talk: Talk,
    stop: Callable[[], None],
) -> Cell:
    """One cell: from its card if there is one of the same facts, else sampled and scored."""
    recipe = recipe.of(source.run).resolved(source.model.config.diffusion)
    name, t, count, seed = recipe.sampler, recipe.steps, facts["count"], facts["seed"]
    origin = {
        "weights": source.run.weights_hash,
        "bits": source.name,
        "bits_sha256": source.sha256,
        "sampler": name,
        "steps": t,
        "spacing": recipe.spacing,
        "seed": seed,
        "precision": recipe.precision,
    }
    if (law := sampler_class(name).law) > 1:
        origin["law"] = law
    origin |= {key: recipe.facts()[key] for key in YOUNGER if key in recipe.facts()}
    file = out / "cards" / f"{source.name}-{name}-{t:03d}.json"
    if file.exists():
        card = read_json(file)
        if card.get("sweep") == {**facts, **origin}:
            try:
                value, error = (card["scores"][0][key] for key in ("value", "error"))
                return Cell(source.name, name, t, float(value), float(error))
            except (KeyError, IndexError, TypeError, ValueError) as problem:
                raise UserError(f"{file} holds no score", "delete it, and the cell is made anew") from problem
    with talk.task(f"{source.name} {name} T={t}", count) as advance:

        def done(images: int) -> None:
            advance(images, "")
            stop()

        sampler, batch = recipe.create(source.model.config.diffusion), batch_size or usual_batch(source.model)
        images = decode(
            *(source.model, source.bits, sampler, range(count), seed, batch, done),
            precision=recipe.precision,
            guidance=None if source.name == PLAIN else recipe.guided(source.model.config),
        )
    made = origin if recipe.tuned_by is None else {**origin, "tuned_by": recipe.tuned_by}
    samples = ImageSet(images, f"{source.name} {name} T={t}", "array", made=made, strata=source.strata)
    scored = evaluate(samples, dataset, split, extractor, ("fid",), seed)
    write_png(file.with_suffix(".png"), grid(images[:STRIP], columns=STRIP))
    write_json(file, {**scored.facts(), "sweep": {**facts, **origin}})
    return Cell(source.name, name, t, scored.scores[0].value, scored.scores[0].error)


def write(table: Sweep, out: Path) -> None:
    """Writes the table as JSON, Markdown and a plot."""
    write_json(out / "sweep.json", {**table.facts, **table.summary()})
    write_markdown(out / "sweep.md", table.table())
    with atomic(out / "sweep.png") as temporary:
        _figure(table).savefig(temporary, format="png")


def _figure(table: Sweep) -> Any:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(cell.sampler for cell in table.cells))
    figure = Figure(figsize=(1 + 4 * len(names), 4), dpi=110, layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        for source in dict.fromkeys(cell.source for cell in table.cells):
            points = [cell for cell in table.cells if (cell.source, cell.sampler) == (source, name)]
            if points:
                axes.errorbar(*_points(points), marker="o", capsize=2, label=source)
        if table.real is not None:
            label = f"{table.real_count:,} real test images"
            axes.axhline(table.real, color="gray", linestyle=":", label=label)
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
