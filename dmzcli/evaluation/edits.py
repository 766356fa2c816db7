"""How well edits do what they say, by a classifier of pixels that knows neither the bits nor the probe.

Four images of each code are compared: the original, its reconstruction (inverted and decoded with no flip), the edit,
and the control, which has as many flips at random. What an edit does is its difference to the reconstruction: inversion
moves a classifier by itself. The control is what flips do whichever they are; an edit that is no better has not found
its target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmzcli.analysis.flips import Locks, Probes, Rule, edit_bits, random_flips
from dmzcli.codes.encode import bits_of
from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.errors import UserError
from dmzcli.evaluation.classifier import Trained
from dmzcli.evaluation.classifier_training import classifier_for
from dmzcli.generation.edit import redecode
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_unit
from dmzcli.system.png import labelled_rows
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import stream

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Edits:
    """Images and what was made of them.

    Attributes:
        columns: Each image's target, a column of the probes, int64 (N,).
        bits, edited_bits, random_bits: uint8 (N, D).
        originals, reconstructions, edited, random: uint8 (N, H, W, C).
        odds: The target's log-odds by the probe before and after, float64 (N,) each.
    """

    columns: Array
    bits: Array
    edited_bits: Array
    random_bits: Array
    originals: Array
    reconstructions: Array
    edited: Array
    random: Array
    odds: tuple[Array, Array]

    @property
    def flips(self) -> Array:
        """Flips of each image, (N,)."""
        return (self.bits != self.edited_bits).sum(1)


def make_edits(
    model: Autoencoder,
    images: Array,
    columns: Array,
    probes: Probes,
    locks: Locks,
    rule: Rule,
    recipe: Recipe,
    seed: int = 0,
    batch_size: int | None = None,
    talk: Talk | None = None,
) -> Edits:
    """Encodes images, flips bits, and decodes the codes under each image's own noise.

    Arguments:
        model: An autoencoder with bits, in evaluation mode.
        images: uint8 (N, H, W, C).
        columns: Each image's target, (N,).
        probes: Probes of the targets.
        locks, rule: What stays, and how far to go.
        recipe: A DDIM recipe with eta 0.
        seed: Seed of the random flips.
        batch_size: Images at a time; ``None`` for what suits the device.
        talk: Receives progress.
    """
    talk, bits = talk or Silence(), bits_of(model, images)
    weights, intercepts = probes.weights.T[columns], probes.intercepts[columns]
    edited = edit_bits(bits, weights, intercepts, locks, rule)
    counts = (edited != bits).sum(1)
    random = random_flips(bits, counts, locks.bits, seed)
    with talk.task("editing", len(images)) as advance:
        plain, changed, control = redecode(
            model, images, bits, (bits, edited, random), recipe, batch_size, lambda count: advance(count, "")
        )
    before, after = ((codes * weights).sum(1) + intercepts for codes in (bits, edited))
    return Edits(columns, bits, edited, random, images, plain, changed, control, (before, after))


def other_classes(labels: Array, classes: int, seed: int) -> Array:
    """A class at random for each image that is not its own; image i's depends on (seed, i) alone."""
    steps = [int(stream("edit target", seed, i).integers(1, classes)) for i in range(len(labels))]
    return (labels + np.array(steps)) % classes


@dataclass(frozen=True, eq=False)
class Judge:
    """p(class | x), or p(attribute | x) of each, from pixels.

    Attributes:
        trained: The classifier.
        kind: ``labels`` or ``attributes``.
        columns: Its outputs in the order of the probes, int64 (K,).
    """

    trained: Trained
    kind: str
    columns: Array

    @torch.no_grad()
    def __call__(self, images: Array) -> Array:
        """Probabilities of uint8 images (N, H, W, C), float64 (N, K)."""
        link: Callable[[Tensor], Tensor] = torch.sigmoid
        if self.kind == "labels":
            link = lambda logits: logits.softmax(1)  # noqa: E731
        parts = [
            link(self.trained.model(to_unit(images[i : i + 1000]))[1].double())
            for i in range(0, len(images), 1000)
        ]
        return torch.cat(parts).numpy()[:, self.columns]

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        names = ("dataset", "trained_split", "split", "accuracy", "seed", "steps")
        return {"of": self.kind, **{name: getattr(self.trained, name) for name in names}}


def judge_for(
    dataset: Dataset, probes: Probes, split: str, device: torch.device, talk: Talk | None = None
) -> Judge:
    """The classifier that judges edits of images of a split: one that has not learned from that split.

    Arguments:
        dataset: The images that the bit table was made from.
        probes: The targets, in whose order it answers.
        split: The split of the images that are edited.
        device: Where to train it.
        talk: Receives progress.

    Raises:
        UserError: The dataset has no such labels, or too few images to train on.
    """
    names = dataset.label_names if probes.kind == "labels" else dataset.attribute_names
    missing = [name for name in probes.names if name not in names]
    if missing:
        raise UserError(
            f"{dataset.identity} has no {probes.kind[:-1]} '{missing[0]}', which the bit table has",
            "encode the dataset anew",
        )
    learns = "valid" if split == "train" else "train"
    trained = classifier_for(dataset, 0, device, talk, learns, probes.kind)
    return Judge(trained, probes.kind, np.array([names.index(name) for name in probes.names]))


def judged(edits: Edits, judge: Judge, rule: Rule) -> dict[str, Any]:
    """What a classifier says of edits, as JSON: every share with Wilson's 95% interval, every mean with the normal one.

    ``target_rose``: share of images whose target moved the asked way, against the reconstruction and against the
    original. ``past_half``: share whose target ends on the asked side of 0.5. ``others``: mean |Δp| of all other
    classes or attributes against the reconstruction.
    """
    rows = np.arange(len(edits.columns))
    sets = {
        name: judge(getattr(edits, name)) for name in ("originals", "reconstructions", "edited", "random")
    }
    target = {name: values[rows, edits.columns] for name, values in sets.items()}
    others = np.ones(sets["edited"].shape, bool)
    others[rows, edits.columns] = False
    facts: dict[str, Any] = {"target": {name: mean(values) for name, values in target.items()}}
    for name in ("edited", "random"):
        change = sets[name] - sets["reconstructions"]
        facts[name] = {
            "target_change": mean(change[rows, edits.columns]),
            "target_rose": share(rule.sign * change[rows, edits.columns] > 0),
            "target_rose_from_original": share(rule.sign * (target[name] - target["originals"]) > 0),
            "others": mean(np.abs(change)[others].reshape(len(rows), -1).mean(1)),
            "past_half": share(rule.sign * (target[name] - 0.5) > 0),
            "pixels": mean(distance(getattr(edits, name), edits.originals)),
        }
    facts["past_half_without_flips"] = share(rule.sign * (target["reconstructions"] - 0.5) > 0)
    return facts


def flip_facts(edits: Edits, rule: Rule) -> dict[str, Any]:
    """How many bits were flipped, and how far the probe was moved, as JSON."""
    before, after = (rule.sign * odds for odds in edits.odds)
    dim = edits.bits.shape[1]
    return {
        "images": len(edits.bits),
        "bits": dim,
        "flips": mean(edits.flips),
        "flipped_share": float(edits.flips.mean() / dim),
        "flips_at_most": int(edits.flips.max()),
        "past_threshold_before": share(before >= rule.log_odds),
        "past_threshold": share(after >= rule.log_odds),
        "reconstruction_pixels": mean(distance(edits.reconstructions, edits.originals)),
    }


def distance(a: Array, b: Array) -> Array:
    """Root mean square difference of images uint8 (N, H, W, C), pixels in [0, 1], (N,)."""
    return np.sqrt(np.square((a.astype(np.float64) - b) / 255).reshape(len(a), -1).mean(1))


def share(values: Array) -> dict[str, Any]:
    """A share and its 95% interval (E. Wilson, 1927)."""
    from scipy.stats import binomtest

    hits = int(values.sum())
    found = binomtest(hits, len(values)).proportion_ci(method="wilson")
    return {"value": hits / len(values), "interval_95": [float(found.low), float(found.high)]}


def mean(values: Array) -> dict[str, Any]:
    """A mean and its 95% interval over images; no interval of one image."""
    value = float(values.mean())
    if len(values) < 2:
        return {"value": value, "interval_95": None}
    half = 1.96 * float(values.std(ddof=1)) / np.sqrt(len(values))
    return {"value": value, "interval_95": [value - half, value + half]}


def sheet_of(edits: Edits, titles: Sequence[str], count: int = 12) -> Array:
    """A row for each image: original, reconstruction, edit, and edit minus reconstruction (gray is no difference).

    Arguments:
        edits: What is drawn.
        titles: What is said above each row, (N,).
        count: Images at most, evenly spread.

    Returns:
        uint8 (H', W', 3).
    """
    rows = []
    for i in spread(np.arange(len(titles)), count):
        original, plain, edited = edits.originals[i], edits.reconstructions[i], edits.edited[i]
        difference = 128 + (edited.astype(np.int64) - plain) // 2
        rows.append((titles[i], np.stack([original, plain, edited, difference.astype(np.uint8)])))
    return labelled_rows(rows, 4)
