"""Interpolations of a run: strips in several orders of flips beside their controls, and a card on how even they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import priors
from dmzcli.codes.find import load_prior
from dmzcli.data import Dataset
from dmzcli.evaluation.card import versions
from dmzcli.evaluation.distances import mean, mse
from dmzcli.evaluation.pairs import Pairs
from dmzcli.evaluation.scores import Score
from dmzcli.evaluation.smoothness import Steps, cross_fade, steps_in, unevenness
from dmzcli.evaluation.sources import usual_features
from dmzcli.generation.interpolate import Ends, check_frames, check_pairs, check_prior, paths, walk
from dmzcli.generation.orders import at_once
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.system.files import write_json
from dmzcli.system.locks import WHILE, hold
from dmzcli.system.png import labelled_rows, write_png
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray
FADE, JUMP = "cross-fade", "all at once"
"""The controls: pixels alone, and no path of bits."""


@dataclass(frozen=True, eq=False)
class Strips:
    """Strips of pairs, by how they go from one end to the other: the orders of flips, then the controls.

    Attributes:
        ends: The pairs.
        images: uint8 (P, F, H, W, C) by name.
        codes: uint8 (P, F, D) by name; the cross-fade has none.
    """

    ends: Ends
    images: dict[str, Array]
    codes: dict[str, Array]


def make_strips(
    model: Autoencoder,
    first: Array,
    second: Array,
    orders: Sequence[str],
    frames: int,
    recipe: Recipe,
    prior: priors.Prior | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    talk: Talk | None = None,
) -> Strips:
    """Interpolates pairs in several orders, and makes the controls between the same (decoded) ends.

    Arguments:
        model, first, second, frames, prior, seed, batch_size: As of
            :func:`~dmzcli.generation.interpolate.interpolate`.
        orders: Names of orders.
        recipe: Inverts, and decodes again; see :func:`~dmzcli.generation.inversion.inversion_recipe`.
        talk: Receives progress.

    Raises:
        UserError: As there.
    """
    talk, pairs = talk or Silence(), len(first)
    check_frames(frames)
    check_prior(model, prior)
    with talk.task("inverting", 2 * pairs) as advance:
        ends = Ends.of(model, first, second, recipe, batch_size, lambda count: advance(count, ""))
    codes = {order: paths(ends, order, frames, prior, seed) for order in orders}
    codes[JUMP] = np.stack([at_once(a, b, frames) for a, b in zip(*ends.bits, strict=True)])
    images = {}
    with talk.task("decoding", len(codes) * pairs * frames) as advance:
        for number, (name, rows) in enumerate(codes.items()):

            def done(count: int, before: int = number * pairs * frames, name: str = name) -> None:
                advance(before + count, name)

            images[name] = walk(model, ends, rows, batch_size, done)
    jump = images.pop(JUMP)
    images |= {FADE: cross_fade(jump[:, 0], jump[:, -1], frames), JUMP: jump}
    return Strips(ends, images, codes)


@dataclass(frozen=True)
class InterpolationCard:
    """How even a run's interpolations are, and what that depends on.

    Attributes:
        scores: Largest step over mean step by order and control, a mean over pairs; empty without features.
        differences: Of each order and each control, paired by pair: ``"order − control"``.
        values: The scores of single pairs, by order and control.
        surprise: By order and control, −log₂ p in bits of the least likely code on the way, less that of the less
            likely end: a mean over pairs; empty without a prior.
        end_mse: Mean squared error of the decoded ends to the images, pixels in [0, 1].
        flips: Bits that differ, by pair.
        run, weights: Directory, and SHA-256 of the weights.
        dataset, split, pairs: Identity of the dataset, or ``pictures``; the split that pairs were drawn from, if they
            were; and what each pair is.
        frames, orders, seed: Images of a strip; the orders; seed of random ones and of pairs that were drawn.
        prior: Kind and SHA-256 of the prior, if any.
        extractor: Name, layer and SHA-256 of the features, if any.
        sampling: Sampler, steps, spacing, threshold of inversion and decoding.
        strips, card: The files.
        versions, created: Versions of the libraries; ISO 8601 time.
    """

    scores: dict[str, Score]
    differences: dict[str, Score]
    values: dict[str, list[float]]
    surprise: dict[str, Score]
    end_mse: float
    flips: list[int]
    run: str
    weights: str
    dataset: str
    split: str | None
    pairs: list[list[str]]
    frames: int
    orders: list[str]
    seed: int
    prior: dict[str, Any] | None
    extractor: dict[str, Any] | None
    sampling: dict[str, Any]
    strips: list[str]
    card: str
    versions: dict[str, str]
    created: str

    def facts(self) -> dict[str, Any]:
        """As JSON; a single pair gives no interval."""
        known = len(self.pairs) > 1

        def row(score: Score) -> dict[str, Any]:
            error, interval = (score.error, list(score.interval)) if known else (None, None)
            return {"value": score.value, "error": error, "interval_95": interval}

        told = {
            name: {key: row(score) for key, score in getattr(self, name).items()}
            for name in ("scores", "differences", "surprise")
        }
        return {"format": "dmz-interpolation", "version": 1, **vars(self), **told}

    def title(self) -> str:
        """One line for a person."""
        measured = "no features" if self.extractor is None else f"features {self.extractor['name']}"
        return (
            f"{self.run}: {len(self.pairs):,} pairs of {self.dataset}, {self.frames} frames, "
            f"DDIM with {self.sampling['steps']} steps, {measured}"
        )

    def table(self) -> list[dict[str, Any]]:
        """As rows for a person: the mean ± half of its 95% interval."""
        half = (lambda s: f" ± {1.96 * s.error:.2g}") if len(self.pairs) > 1 else (lambda s: "")
        rows = []
        for name in [*self.orders, FADE, JUMP]:
            row: dict[str, Any] = {"flips": name if name in (FADE, JUMP) else f"one by one, {name}"}
            if self.scores:
                row["largest / mean step"] = f"{self.scores[name].value:.3g}{half(self.scores[name])}"
                for control in (FADE, JUMP):
                    other = self.differences.get(f"{name} − {control}")
                    row[f"less {control}"] = "" if other is None else f"{other.value:+.2g}{half(other)}"
            if self.surprise:
                score = self.surprise.get(name)
                row["bits of surprise"] = "" if score is None else f"{score.value:+.3g}{half(score)}"
            rows.append(row)
        return rows


def surprises(codes: Array, prior: priors.Prior) -> Array:
    """−log₂ p of the least likely code on the way, less that of the less likely end; (P, F, D) → (P,)."""
    bits = -prior.log_prob(codes.reshape(-1, codes.shape[2])).reshape(codes.shape[:2]) / np.log(2)
    found: Array = bits.max(1) - np.maximum(bits[:, 0], bits[:, -1])
    return found


def score_strips(made: Strips, steps: Steps | None, prior: priors.Prior | None) -> dict[str, Any]:
    """The numbers of a card: scores, their paired differences, surprise, errors of the ends."""
    name = "largest over mean step"
    values = {} if steps is None else {way: unevenness(steps(strips)) for way, strips in made.images.items()}
    orders = [way for way in made.images if way not in (FADE, JUMP)]
    differences = {
        f"{order} − {control}": mean(f"difference of {name}", values[order] - values[control])
        for order in (orders if values else ())
        for control in (FADE, JUMP)
    }
    known = {} if prior is None else {way: surprises(codes, prior) for way, codes in made.codes.items()}
    jump = made.images[JUMP]
    errors = [mse(made.ends.first, jump[:, 0]), mse(made.ends.second, jump[:, -1])]
    return {
        "scores": {way: mean(name, rows) for way, rows in values.items()},
        "differences": differences,
        "values": {way: rows.tolist() for way, rows in values.items()},
        "surprise": {way: mean("surprise", rows) for way, rows in known.items()},
        "end_mse": float(np.mean(errors)),
        "flips": np.abs(made.ends.bits[0].astype(int) - made.ends.bits[1]).sum(1).tolist(),
    }


def strip_sheet(made: Strips, pair: int) -> Array:
    """One pair's strips: the images as given at both ends, then a row for each order and control.

    Returns:
        uint8 (H', W', 3).
    """
    frames = next(iter(made.images.values())).shape[1]
    blank = np.full((frames, *made.ends.first.shape[1:]), 255, np.uint8)
    blank[0], blank[-1] = made.ends.first[pair], made.ends.second[pair]
    flips = int((made.ends.bits[0][pair] != made.ends.bits[1][pair]).sum())
    rows = [(f"from and to; {flips} bits differ", blank)]
    for way, strips in made.images.items():
        rows.append((way if way in (FADE, JUMP) else f"bits flip in order: {way}", strips[pair]))
    return labelled_rows(rows, frames)


def evaluate_interpolation(
    run: Run,
    pairs: Pairs,
    orders: Sequence[str],
    frames: int,
    recipe: Recipe,
    prior: Path | None,
    features: str | None,
    dataset: Dataset | None,
    weights: Path | None,
    seed: int,
    device: torch.device,
    batch_size: int | None = None,
    out: Path | None = None,
    talk: Talk | None = None,
) -> InterpolationCard:
    """Interpolates pairs, scores the strips, and writes a folder: a strip per pair, and the card.

    Arguments:
        run: The run whose model interpolates.
        pairs: The images.
        orders: Names of orders.
        frames: Images of a strip, with both ends.
        recipe: Inverts, and decodes again.
        prior: Folder of the prior that says how likely codes are; needed by ``greedy``.
        features: What steps are measured in, see :func:`~dmzcli.evaluation.smoothness.steps_in`; ``none``, or by
            default what ``dmz evaluate`` takes for the dataset.
        dataset: The run's, where features need it.
        weights: A file of the features' weights.
        seed: Seed of random orders.
        device, batch_size: Where to compute, and images at a time.
        out: The folder; by default in the run's ``interpolations/``.
        talk: Receives progress.

    Raises:
        UserError: The model has no bits or no inversion, the images or the prior do not fit it, or the features cannot
            be had.
    """
    model = run.load_model(device)
    check_pairs(model, pairs.first, pairs.second)
    fitted = None if prior is None else load_prior(prior, run, model.dim)
    measured, about = None, None
    if features != "none":
        if features is None:
            assert dataset is not None
            features = usual_features(dataset, pairs.split or "test")
        side = min(model.shape[1:])
        measured, about = steps_in(features, side, dataset, device, weights, batch_size or 64, talk)
    made = make_strips(
        model, pairs.first, pairs.second, orders, frames, recipe, fitted, seed, batch_size, talk
    )
    known = None if fitted is None else {"kind": fitted.kind, "sha256": fitted.sha256, "folder": str(prior)}
    key = [pairs.names, orders, frames, made.ends.recipe.facts(), seed, known, about]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:6]
    folder = out or run.path / "interpolations" / f"{pairs.of}-{'-'.join(orders)}-{digest}"
    files = [folder / f"pair-{number:03d}.png" for number in range(len(pairs.names))]
    card = InterpolationCard(
        **score_strips(made, measured, fitted),
        run=str(run.path),
        weights=run.weights_hash,
        dataset=pairs.dataset,
        split=pairs.split,
        pairs=[list(pair) for pair in pairs.names],
        frames=frames,
        orders=list(orders),
        seed=seed,
        prior=known,
        extractor=about,
        sampling=made.ends.recipe.facts(),
        strips=list(map(str, files)),
        card=str(folder / "card.json"),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with hold(folder, folder=True, patience=WHILE):
        for number, file in enumerate(files):
            write_png(file, strip_sheet(made, number))
        write_json(folder / "card.json", card.facts())
    return card
