"""Generated images against a split of a dataset: the scores, and the card without which they mean nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.data import Dataset
from dmzcli.errors import UserError, did_you_mean
from dmzcli.evaluation import scores
from dmzcli.evaluation.features import FEWEST, Extractor, reference_of
from dmzcli.evaluation.image_sets import ImageSet, fitted_to
from dmzcli.evaluation.limits import METRICS
from dmzcli.evaluation.scores import Score
from dmzcli.system.files import write_json
from dmzcli.system.progress import Silence, Talk
from dmzcli.version import __version__

ENOUGH = 10_000


@dataclass(frozen=True)
class Card:
    """An evaluation card: scores, and all that has to be equal for two of them to be compared.

    Attributes:
        scores: The numbers.
        generated: N (for kernel distance, precision and recall, too), pixels' SHA-256, encoding, size, and how they
            were made.
        reference: Dataset identity (its crop included), split, N, and whether it was decoded from a lossy format.
        extractor: Name, layer, SHA-256 of the weights, and where those are from.
        seed: Seed of subsets and shuffles.
        warnings: What a reader has to know.
        versions: Versions of the libraries.
        created: ISO 8601 time.
    """

    scores: tuple[Score, ...]
    generated: dict[str, Any]
    reference: dict[str, Any]
    extractor: dict[str, Any]
    seed: int
    warnings: tuple[str, ...]
    versions: dict[str, str]
    created: str

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        rows = [{**asdict(score), "interval_95": list(score.interval)} for score in self.scores]
        return {
            "format": "dmz-evaluation",
            "version": 1,
            **vars(self),
            "scores": rows,
            "warnings": list(self.warnings),
        }

    def digest(self) -> str:
        """Six hexadecimal digits that tell cards on the same samples, features and split apart."""
        facts = [[score.metric for score in self.scores], self.seed, self.generated["resized_from"]]
        facts += [self.extractor["sha256"], self.reference["dataset"]]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:6]

    def file(self, folder: Path) -> Path | None:
        """Where the card of a folder of samples goes; ``None`` for images of others."""
        if not (folder / "plan.json").exists():
            return None
        dataset, _, _ = str(self.reference["dataset"]).partition("/")
        name = f"evaluation-{self.extractor['name']}-{dataset}-{self.reference['split']}-{self.digest()}.json"
        return folder / name

    def title(self) -> str:
        """One line for a person."""
        made, real = self.generated, self.reference
        return (
            f"{made['name']}: {made['n']:,} images against {real['n']:,} of {real['dataset']} {real['split']}, "
            f"features {self.extractor['name']} {self.extractor['sha256'][:8]}"
        )

    def table(self) -> list[dict[str, Any]]:
        """As rows for a person."""
        return [
            {
                "metric": score.metric,
                "value": f"{score.value:.4g}",
                "95% interval": "{:.4g} … {:.4g}".format(*score.interval),
            }
            for score in self.scores
        ]


def evaluate(
    samples: ImageSet,
    dataset: Dataset,
    split: str,
    extractor: Extractor,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 64,
    allow_lossy: bool = False,
    resize: bool = False,
    talk: Talk | None = None,
) -> Card:
    """Scores images against a split.

    Arguments:
        samples: The generated images.
        dataset: Holds the reference.
        split: The reference's split.
        extractor: The features.
        metrics: Some of ``fid``, ``kid``, ``is`` (where the extractor has class logits), ``prc``; ``None`` for all.
        seed: Seed of subsets and shuffles.
        batch_size: Images at a time.
        allow_lossy: Takes JPEG-compressed samples.
        resize: Takes samples of another size, resampled.
        talk: Receives progress.

    Raises:
        UserError: The samples are compressed, too few, or of another size.
    """
    talk = talk or Silence()
    metrics = available_metrics(extractor) if metrics is None else metrics
    check_metrics(metrics, extractor)
    if samples.lossy and not allow_lossy:
        raise UserError(
            f"{samples.name} holds JPEG-compressed images: the compression would be scored too",
            "save samples as PNG; --allow-lossy takes them as they are",
        )
    if len(samples) < FEWEST:
        raise UserError(f"{samples.name} holds {len(samples)} images", f"at least {FEWEST} are needed")
    samples = fitted_to(samples, dataset.images.shape[1], dataset.images.shape[3], resize)
    reference = reference_of(extractor, dataset, split, batch_size, talk)
    with talk.task("features of the samples", len(samples)) as advance:
        features, logits = extractor(samples.images, batch_size, lambda count: advance(count, ""))
    taken: list[Score] = []
    strata, chosen = samples.strata, scores.subset(len(features), scores.KERNEL_IMAGES)
    if "fid" in metrics:
        taken.append(scores.frechet(features, reference.moments, extractor.metric("fid"), strata))
    some, some_strata = features[chosen], None if strata is None else strata[chosen]
    if "kid" in metrics:
        name = extractor.metric("kid")
        taken.append(scores.kernel_distance(some, reference.features, seed, name, some_strata))
    if "is" in metrics:
        assert logits is not None
        taken.append(scores.inception_score(logits, seed, _score_name(extractor), strata))
    if "prc" in metrics:
        names = (extractor.metric("precision"), extractor.metric("recall"))
        taken += scores.precision_recall(some, reference.features, names, some_strata)
    return Card(
        scores=tuple(taken),
        generated={
            "n": len(samples),
            "n_kid_prc": len(some),
            "name": samples.name,
            "sha256": samples.sha256,
            "encoding": samples.encoding,
            "lossy": samples.lossy,
            "size": samples.images.shape[1],
            "resized_from": samples.resized_from,
            "made": dict(samples.made),
        },
        reference={
            "n": reference.moments.count,
            "n_kid_prc": len(reference.features),
            "dataset": dataset.identity,
            "split": split,
            "lossy": dataset.lossy,
        },
        extractor={
            "name": extractor.name,
            "layer": extractor.layer,
            "sha256": extractor.sha256,
            **extractor.facts,
        },
        seed=seed,
        warnings=tuple(_warnings(samples, dataset, len(dataset.rows(split)))),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def prepare(
    extractor: Extractor,
    dataset: Dataset,
    split: str,
    metrics: Sequence[str] | None,
    batch_size: int,
    talk: Talk,
) -> tuple[str, ...]:
    """The metrics to take, after everything that can be refused or cached before any image is sampled.

    Arguments:
        extractor, dataset, split, metrics, batch_size, talk: As for :func:`evaluate`.

    Raises:
        UserError: The split or a metric is unknown, or the reference has too few images.
    """
    names = available_metrics(extractor) if metrics is None else tuple(metrics)
    check_metrics(names, extractor)
    reference_of(extractor, dataset, split, batch_size, talk)
    return names


def write(card: Card, file: Path | None, talk: Talk) -> Path | None:
    """Writes a card, if there is a file for it, and repeats its warnings."""
    for warning in card.warnings:
        talk.say(f"warning: {warning}")
    if file is None:
        talk.say("no card is written beside images of others: name a file with --out")
    else:
        write_json(file, card.facts())
    return file


def available_metrics(extractor: Extractor) -> tuple[str, ...]:
    """What can be computed in an extractor's features."""
    return tuple(name for name in METRICS if name != "is" or extractor.logits is not None)


def check_metrics(metrics: Sequence[str], extractor: Extractor) -> None:
    """Raises UserError unless these can be computed in an extractor's features, and there are any."""
    if not metrics:
        raise UserError("there is no metric", f"name some of {', '.join(available_metrics(extractor))}")
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"unknown metric '{name}'", did_you_mean(name, METRICS, "metrics"))
        if name not in available_metrics(extractor):
            raise UserError(
                f"the metric '{name}' needs class logits, which {extractor.name} has not",
                f"name some of {', '.join(available_metrics(extractor))}",
            )


def _score_name(extractor: Extractor) -> str:
    return "inception-score" if extractor.name == "inception" else f"score-{extractor.name}"


def _warnings(samples: ImageSet, dataset: Dataset, references: int) -> list[str]:
    warnings = []
    counts = (("samples", len(samples)), ("reference images", references))
    warnings += [few(what, count) for what, count in counts if count < ENOUGH]
    if samples.lossy:
        warnings.append("the samples are JPEG-compressed: the compression is part of the score")
    if dataset.lossy:
        warnings.append("the reference was decoded from JPEG files: their compression is part of the score")
    if samples.resized_from:
        warnings.append(
            f"the samples were resampled from {samples.resized_from} pixels: that is part of the score"
        )
    return warnings


def few(what: str, count: int) -> str:
    """What has to be known of Fréchet distances of fewer images than :data:`ENOUGH`."""
    return (
        f"{count:,} {what} are fewer than {ENOUGH:,}: Fréchet distances come out too large by an amount that "
        "depends on the count; compare only equal counts"
    )


def versions() -> dict[str, str]:
    """Versions of what computes the scores."""
    import torch_fidelity

    return {
        "dmz": __version__,
        "torch": str(torch.__version__),
        "torch-fidelity": torch_fidelity.__version__,
        "numpy": np.__version__,
    }
