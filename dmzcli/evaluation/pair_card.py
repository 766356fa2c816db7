"""How good translations are: the card of a pair and its map, on training pairs and on held-out ones.

Beside the translations stand three references, measured alike: what the target's own bits decode to (the best that any
map could do), random photos of the target's class (what the class alone gives), and the photos of the training pairs
whose drawings have the nearest bits (what looking up gives; they also show how diverse the photos of near-equal
drawings are).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.codes.encode import bits_of
from dmzcli.data import Dataset
from dmzcli.data.crops import with_channels
from dmzcli.data.dataset import spread
from dmzcli.data.sources.edges import Pairs
from dmzcli.errors import UserError
from dmzcli.evaluation import scores
from dmzcli.evaluation.card import versions
from dmzcli.evaluation.distances import distances as image_distances
from dmzcli.evaluation.features import Extractor, reference_of
from dmzcli.evaluation.limits import FEWEST
from dmzcli.evaluation.pair_scores import Distances, measure, nearest_rows, random_rows
from dmzcli.evaluation.scores import Score
from dmzcli.generation.inputs import of_pairs
from dmzcli.generation.recipe import Recipe
from dmzcli.generation.translate import Translator
from dmzcli.generation.translations import translate, translation_grid
from dmzcli.system.files import write_json
from dmzcli.system.locks import WHILE, hold
from dmzcli.system.png import write_png
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray
TRANSLATED = "translated"
RECONSTRUCTED = "the target's reconstruction"
NEAREST = "nearest training pairs' photos"
GRID_DRAWS = 3


@dataclass(frozen=True)
class PairCard:
    """Scores of a pair's translations, and what they depend on.

    Attributes:
        scores: By split and method: the scores.
        differences: By split and reference: the translations' scores minus the reference's, paired by inputs.
        absent: What could not be measured, and why.
        facts_: Pair, map, dataset, splits with their counts, draws, sampling, seed, features.
        files: The card, a grid for each split, and the folders of translations.
        warnings: What a reader has to know.
    """

    scores: Mapping[str, Mapping[str, tuple[Score, ...]]]
    differences: Mapping[str, Mapping[str, tuple[Score, ...]]]
    absent: Mapping[str, str]
    facts_: Mapping[str, Any]
    files: Mapping[str, Any]
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """As JSON."""

        def rows(tree: Mapping[str, Mapping[str, tuple[Score, ...]]]) -> dict[str, Any]:
            return {
                split: {
                    method: [
                        {
                            **{k: v for k, v in asdict(s).items() if k != "left_out"},
                            "interval_95": list(s.interval),
                        }
                        for s in own
                    ]
                    for method, own in methods.items()
                }
                for split, methods in tree.items()
            }

        return {
            "format": "dmz-pair-evaluation",
            "version": 1,
            **self.facts_,
            "scores": rows(self.scores),
            "differences": rows(self.differences),
            "absent": dict(self.absent),
            "warnings": list(self.warnings),
            **self.files,
        }

    def title(self) -> str:
        """One line for a person."""
        facts = self.facts_
        how = f"{facts['sampling']['sampler']}, {facts['sampling']['steps']} steps"
        return f"{facts['pair']} {facts['direction']} by {facts['map']} on {facts['dataset']}, {how}"

    def table(self) -> list[dict[str, Any]]:
        """As rows for a person: a method on a split in each."""
        names: dict[str, None] = {}
        for methods in self.scores.values():
            for own in methods.values():
                names |= {score.metric: None for score in own}
        rows = []
        for split, methods in self.scores.items():
            for method, own in methods.items():
                values = {score.metric: f"{score.value:.4g} ± {1.96 * score.error:.2g}" for score in own}
                rows.append(
                    {"split": split, "images": method} | {name: values.get(name, "–") for name in names}
                )
        return rows


def evaluate_pair(
    translator: Translator,
    pairs: Pairs,
    splits: tuple[str, ...],
    count: int,
    draws: int,
    recipe: Recipe,
    extractor: Extractor | str,
    seed: int = 0,
    temperature: float = 1.0,
    batch_size: int | None = None,
    out: Path | None = None,
    talk: Talk | None = None,
) -> PairCard:
    """Translates pairs of some splits, scores them beside the references, and writes a card and a grid for each split.

    Arguments:
        translator: The pair and its map.
        pairs: The set of pairs, in the sizes that the models take.
        splits: The splits to measure on.
        count: Pairs of each split at most, evenly spread.
        draws: Images of each input.
        recipe: How bits are decoded.
        extractor: The features; or why there are none.
        seed: Seed of bits, noise and random references.
        temperature: Temperature of the map.
        batch_size: Images at a time; ``None`` for what suits the device.
        out: The card's file; by default in the target run's ``evaluation/``.
        talk: Receives progress and remarks.

    Raises:
        UserError: A split is empty, or the images do not fit the models.
    """
    talk = talk or Silence()
    absent = {} if isinstance(extractor, Extractor) else {"features": extractor}
    features = extractor if isinstance(extractor, Extractor) else None
    target = pairs.b if translator.direction == "A-to-B" else pairs.a
    translator.decoder.check_images(
        target.images, "take the set that the pair was trained on", "the targets are"
    )
    scored: dict[str, dict[str, tuple[Score, ...]]] = {}
    differences: dict[str, dict[str, tuple[Score, ...]]] = {}
    counts, folders, grids = {}, {}, {}
    for split in dict.fromkeys(splits):
        inputs = of_pairs(pairs, translator.direction, split, count)
        made = translate(translator, inputs, draws, recipe, seed, temperature, None, batch_size, talk)
        methods = {TRANSLATED: made.images} | _references(
            translator, pairs, split, inputs.index, draws, recipe, seed, batch_size, talk
        )
        assert inputs.targets is not None
        counts[split], folders[split] = len(inputs), str(made.folder)
        measured, scored[split] = {}, {}
        for name, images in methods.items():
            measured[name], own = _score(images, inputs.targets, target, split, features, seed, talk, absent)
            scored[split][name] = tuple(own)
        differences[split] = {
            name: tuple(measured[TRANSLATED].minus(other))
            for name, other in measured.items()
            if name != TRANSLATED
        }
        grids[split] = _grid(inputs.images, inputs.targets, methods)
    facts = {
        **translator.facts(),
        "dataset": target.identity,
        "lossy": target.lossy,
        "splits": counts,
        "draws": draws,
        "seed": seed,
        "temperature": temperature,
        "sampling": translator.recipe(recipe).facts(),
        "features": None
        if features is None
        else {"name": features.name, "sha256": features.sha256, **features.facts},
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:6]
    name = f"pair-{target.name}-{translator.folder.name}-{recipe.sampler}-{recipe.steps}-{digest}.json"
    file = out or translator.target.path / "evaluation" / name
    pictures = {split: file.with_name(f"{file.stem}-{split}.png") for split in grids}
    files = {"card": str(file), "grids": {k: str(v) for k, v in pictures.items()}, "translations": folders}
    facts |= {"versions": versions(), "created": datetime.now(UTC).isoformat(timespec="seconds")}
    card = PairCard(scored, differences, absent, facts, files, tuple(_warnings(features, splits, counts)))
    with hold(file, patience=WHILE):
        for split, picture in pictures.items():
            write_png(picture, grids[split])
        write_json(file, card.facts())
    return card


def _take(images: Array, rows: Array) -> Array:
    """Images of rows in any order and shape, (*rows.shape, H, W, C); each is read once."""
    unique, back = np.unique(rows, return_inverse=True)
    return np.asarray(images[unique])[back.reshape(rows.shape)]


def _references(
    translator: Translator,
    pairs: Pairs,
    split: str,
    rows: Array,
    draws: int,
    recipe: Recipe,
    seed: int,
    batch_size: int | None,
    talk: Talk,
) -> dict[str, Array]:
    """The images (N, n, H, W, C) of each reference, by its name."""
    source, target = (pairs.a, pairs.b) if translator.direction == "A-to-B" else (pairs.b, pairs.a)
    with talk.task("reconstructing the targets", len(rows)) as advance:
        own = np.asarray(target.images[rows])
        decoded = translator.images(
            bits_of(translator.decoder, own),
            range(len(rows)),
            0,
            translator.recipe(recipe),
            seed,
            batch_size,
            lambda done: advance(done, ""),
        )
    pool = target.rows("train")
    train = np.full(len(target), -1, np.int64)
    train[pool] = np.arange(len(pool))
    labels = target.labels
    classes = (None, None) if labels is None else (labels[rows], labels[pool])
    drawn = random_rows(classes[0], pool, classes[1], draws, rows, seed)
    known = np.concatenate(
        [
            bits_of(translator.encoder, source.images[part])
            for part in np.array_split(pool, -(-len(pool) // 4096))
        ]
    )
    near = nearest_rows(bits_of(translator.encoder, source.images[rows]), known, draws, train[rows])
    random_name = "random photos" if labels is None else "random photos of the class"
    return {
        RECONSTRUCTED: decoded[:, None],
        random_name: _take(target.images, drawn),
        NEAREST: _take(target.images, pool[near]),
    }


def _score(
    images: Array,
    targets: Array,
    dataset: Dataset,
    split: str,
    extractor: Extractor | None,
    seed: int,
    talk: Talk,
    absent: dict[str, str],
) -> tuple[Distances, list[Score]]:
    """What is measured of every input, and all scores of a method: Fréchet distances are of the first draws."""
    count, n = images.shape[:2]
    if extractor is None:
        found = measure(images, targets, None, "")
        own = found.scores()
    else:
        with talk.task("features", count * (n + 1)) as advance:
            every, logits = extractor(
                images.reshape(count * n, *images.shape[2:]), 64, lambda done: advance(done, "")
            )
            there, _ = extractor(targets, 64)
        of_draws = every.reshape(count, n, -1)
        found = measure(images, targets, (of_draws, there), extractor.name)
        own = found.scores()
        if min(count, len(dataset.rows(split))) < FEWEST:
            absent[extractor.metric("fid")] = f"at least {FEWEST} pairs are needed"
        else:
            reference = reference_of(extractor, dataset, split, 64, talk)
            own.append(scores.frechet(of_draws[:, 0], reference.moments, extractor.metric("fid")))
            if logits is not None:
                first = logits.reshape(count, n, -1)[:, 0]
                own.append(scores.inception_score(first, seed, extractor.metric("inception-score")))
    wanted = None if "lpips" in absent else "lpips-vgg16"
    perceptual, missing = image_distances(targets, images[:, 0], wanted)
    own += [score for score in perceptual if score.metric == "lpips"]
    if "lpips" in missing:
        absent["lpips"] = missing["lpips"]
    return found, own


def _grid(inputs: Array, targets: Array, methods: Mapping[str, Array]) -> Array:
    """Inputs, some draws of the translations, one image of each reference, and the targets."""
    rows = spread(np.arange(len(inputs)), 16)
    some = [images[rows, : GRID_DRAWS if name == TRANSLATED else 1] for name, images in methods.items()]
    names = [f"{j + 1}" for j in range(some[0].shape[1])] + ["recon.", "random", "nearest"]
    return translation_grid(
        np.asarray(inputs[rows]), with_channels(np.concatenate(some, 1), 3), targets[rows], names
    )


def _warnings(extractor: Extractor | None, splits: tuple[str, ...], counts: Mapping[str, int]) -> list[str]:
    """What a reader has to know."""
    said = []
    if extractor is not None and extractor.facts.get("trained_split") in splits:
        said.append(
            f"the features' network learned from the split {extractor.facts['trained_split']}: its distances there "
            "are those of images that it has seen"
        )
    if extractor is not None and min(counts.values()) < scores.KERNEL_IMAGES:
        said.append(
            f"Fréchet distances of {min(counts.values()):,} images come out too large by an amount that depends on "
            "the count; compare only equal counts"
        )
    return said


def usual_pair_features(dataset: Dataset, enough: int) -> str:
    """The features where none are asked for: Inception for color, else the classifier that has seen least.

    One network for all splits, so that their distances compare: the one that learned from valid, where there are
    enough images for it.
    """
    if dataset.images.shape[3] == 3:
        return "inception"
    return "classifier-valid" if len(dataset.rows("valid")) >= enough else "classifier"


def extractor_or_reason(create: Any) -> Extractor | str:
    """The extractor, or why there is none: where nobody asked for features, pixels are compared all the same."""
    try:
        made = create()
    except UserError as error:
        return error.message
    assert isinstance(made, Extractor)
    return made
