"""How much of an image its bits keep: scores of reconstructions from bits alone, and from bits and inverted x_T."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.errors import UserError
from dmzcli.evaluation.card import versions
from dmzcli.evaluation.distances import LPIPS, SHOWN, Measure, mean, measures
from dmzcli.evaluation.scores import Score
from dmzcli.generation.inversion import check_invertible, inversion_recipe
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.reconstruct import Reconstructions, reconstruct
from dmzcli.runs import Run
from dmzcli.system.files import write_json
from dmzcli.system.locks import WHILE, hold
from dmzcli.system.png import labelled_rows, write_png
from dmzcli.system.progress import Talk

Array = np.ndarray
COLUMNS = 10
"""Images of a grid at most, evenly spread."""
FEW = 4
"""x_T that a grid shows at most."""
FROM = {
    "bits": "bits alone",
    "mean": "their mean over x_T",
    "bits and x_T": "bits and inverted x_T",
    "other bits": "bits of another image (control)",
}
"""What a reconstruction is made from."""


@dataclass(frozen=True, eq=False)
class Originals:
    """Images to reconstruct, and what they are.

    Attributes:
        images: uint8 (N, H, W, C).
        dataset: Identity of the dataset; ``pictures`` for files that were given.
        name: The dataset's, in file names.
        split: The split; ``none`` for files.
        lossy: Whether the images were decoded from lossy files.
        files: The files; ``None`` for a dataset.
    """

    images: Array
    dataset: str
    name: str
    split: str
    lossy: bool
    files: tuple[str, ...] | None = None

    @classmethod
    def of(cls, dataset: Dataset, split: str, count: int) -> Originals:
        """At most ``count`` images of a split, evenly spread.

        Raises:
            UserError: The split is empty.
        """
        rows = spread(dataset.rows(split), count)
        if not len(rows):
            raise UserError(f"{dataset.name} has no {split} images", "choose another --split")
        return cls(dataset.images[rows], dataset.identity, dataset.name, split, dataset.lossy)


@dataclass(frozen=True)
class ReconstructionCard:
    """The scores of a run's reconstructions, and what they depend on.

    Attributes:
        scores: What a reconstruction is made from, one of :data:`FROM`, and a mean over images.
        absent: Measures that could not be taken, and why.
        run, weights: Directory, and SHA-256 of the weights.
        dataset, split, n: Identity, split, and how many of its images, evenly spread.
        lossy: Whether these were decoded from JPEG files.
        files: The pictures, where files were given.
        extractor: The network of LPIPS.
        sampling: Sampler, steps, spacing, eta, threshold from bits alone.
        draws: K, the x_T of each image there.
        inversion: The same of the inverted x_T; ``None`` where there is none.
        seed: Seed of the decoding noise.
        card, grid: The files.
        versions, created: Versions of the libraries; ISO 8601 time.
    """

    scores: tuple[tuple[str, Score], ...]
    absent: dict[str, str]
    run: str
    weights: str
    dataset: str
    split: str
    n: int
    lossy: bool
    files: tuple[str, ...] | None
    extractor: str
    sampling: dict[str, Any]
    draws: int
    inversion: dict[str, Any] | None
    seed: int
    card: str
    grid: str
    versions: dict[str, str]
    created: str

    def facts(self) -> dict[str, Any]:
        """As JSON; a single image gives no interval."""
        known = self.n > 1
        rows = [
            {
                "from": of,
                "metric": score.metric,
                "value": score.value,
                "error": score.error if known else None,
                "interval_95": list(score.interval) if known else None,
            }
            for of, score in self.scores
        ]
        return {"format": "dmz-reconstructions", "version": 2, **vars(self), "scores": rows}

    def title(self) -> str:
        """A line for a person, and one for each measure that could not be taken."""
        how = f"{self.sampling['sampler']}, {self.sampling['steps']} steps, {self.draws} x_T each"
        back = "" if self.inversion is None else f"; inverted in {self.inversion['steps']} steps"
        of = "pictures" if self.files is not None else f"images of {self.dataset} {self.split}"
        first = f"{self.run}: {self.n:,} {of}; from bits alone: {how}{back}; pixels in [0, 1]"
        return "\n".join([first, *(f"no {SHOWN[name]}: {why}" for name, why in self.absent.items())])

    def table(self) -> list[dict[str, Any]]:
        """As rows for a person: the mean ± half of its 95% interval."""
        names = list(dict.fromkeys(score.metric for _, score in self.scores))
        rows = []
        for of in dict.fromkeys(of for of, _ in self.scores):
            own = {score.metric: score for source, score in self.scores if source == of}
            cells = {SHOWN[name]: self._cell(own[name]) if name in own else "" for name in names}
            rows.append({"from": FROM[of]} | cells)
        return rows

    def _cell(self, score: Score) -> str:
        half = f" ± {1.96 * score.error:.2g}" if self.n > 1 else ""
        return f"{score.value:.4g}{half}"


def scores_of(made: Reconstructions, taken: dict[str, Measure]) -> list[tuple[str, Score]]:
    """Every measure of every way to reconstruct, each a mean over images; of bits alone, over x_T first.

    The control decodes each image's code and compares it with another image: what any code of the split would score.
    """
    originals, found = made.originals, []
    for name, measure in taken.items():
        each = np.mean([measure(originals, decoded) for decoded in made.draws], 0)
        found.append(("bits", mean(name, each)))
    several = len(made.draws) > 1
    if several:
        deviation = made.spread.reshape(len(originals), -1)
        found.append(("bits", mean("spread", np.sqrt(np.square(deviation).mean(1)))))
    others = {"mean": made.mean} if several else {}
    others |= {} if made.inverted is None else {"bits and x_T": made.inverted}
    others |= {"other bits": np.roll(made.draws[0], len(originals) // 2, 0)} if len(originals) > 1 else {}
    for of, decoded in others.items():
        found += [(of, mean(name, measure(originals, decoded))) for name, measure in taken.items()]
    return found


def sheet(made: Reconstructions) -> Array:
    """A column per image: original, from bits alone, their mean and spread, from bits and inverted x_T.

    Returns:
        uint8 (H', W', 3).
    """
    shown = spread(np.arange(len(made.originals)), COLUMNS)
    rows = [("originals", made.originals[shown])]
    for k, decoded in enumerate(made.draws[:FEW]):
        rows.append((f"bits alone, x_T {k + 1}", decoded[shown]))
    if len(made.draws) > 1:
        rows.append((f"mean over {len(made.draws)} x_T", made.mean[shown]))
        deviation = made.spread[shown].mean(-1, keepdims=True)
        white = max(float(deviation.max()), 1 / 255)
        picture = np.rint(255 * deviation / white).astype(np.uint8)
        rows.append((f"spread; white: {white:.2f}", picture.repeat(made.originals.shape[-1], -1)))
    if made.inverted is not None:
        rows.append(("bits and inverted x_T", made.inverted[shown]))
    # Narrower than that, the rows' names do not fit.
    return labelled_rows(rows, max(len(shown), 3))


def evaluate_reconstructions(
    run: Run,
    originals: Originals,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    draws: int = 4,
    invert: bool = True,
    invert_steps: int | None = None,
    batch_size: int | None = None,
    out: Path | None = None,
    talk: Talk | None = None,
) -> ReconstructionCard:
    """Reconstructs images and writes a card and a grid.

    Arguments:
        run: The run whose model reconstructs.
        originals: The images, in the size that the model takes.
        recipe: The recipe that decodes bits alone; its threshold is that of inverted x_T, too.
        seed: Seed of the decoding noise.
        device: Where to compute.
        draws: K, the x_T of each image from bits alone.
        invert: Whether to reconstruct from inverted x_T, too.
        invert_steps: T of the inversion; by default 100, or the most that fit.
        batch_size: Images at a time; ``None`` for what suits the device.
        out: The card's file; by default in the run's ``evaluation/``.
        talk: Receives progress.

    Raises:
        UserError: The model has no bits or no inversion, or the images do not fit it.
    """
    check_model(run, invert)
    model = run.load_model(device)
    diffusion = model.config.diffusion
    recipe = recipe.of(run).resolved(diffusion)
    inversion = (
        inversion_recipe(diffusion, invert_steps, recipe.threshold, recipe.percentile) if invert else None
    )
    taken, absent = measures(min(model.shape[1:]), LPIPS, device, batch_size or 64)
    made = reconstruct(model, originals.images, recipe, draws, inversion, seed, batch_size, talk)
    back = None if inversion is None else inversion.facts()
    key = [recipe.facts(), len(originals.images), seed, originals.dataset, originals.files, draws, back]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:6]
    parts = [recipe.sampler, str(recipe.steps), originals.name, originals.split, digest]
    name = "-".join(["reconstructions", *(part for part in parts if part != "none")])
    file = out or run.path / "evaluation" / f"{name}.json"
    card = ReconstructionCard(
        scores=tuple(scores_of(made, taken)),
        absent=absent,
        run=str(run.path),
        weights=run.weights_hash,
        dataset=originals.dataset,
        split=originals.split,
        n=len(originals.images),
        lossy=originals.lossy,
        files=originals.files,
        extractor=LPIPS,
        sampling=recipe.facts(),
        draws=draws,
        inversion=back,
        seed=seed,
        card=str(file),
        grid=str(file.with_suffix(".png")),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with hold(file, patience=WHILE):
        write_png(card.grid, sheet(made))
        write_json(file, card.facts())
    return card


def check_model(run: Run, invert: bool) -> None:
    """What can be refused of a run before its weights are read.

    Raises:
        UserError: It has no bits, or no inversion where one is asked for.
    """
    if not run.config.model.dim:
        raise UserError(
            f"{run.path} is a plain diffusion model (latent 'none'): it has no bits to reconstruct from",
            "name another --run, or train one with --latent bernoulli",
        )
    if invert:
        check_invertible(run.config.diffusion, "reconstruct from bits alone, with --no-invert")
