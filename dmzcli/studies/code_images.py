"""Codes as images, and how near these are to real ones: what a prior's bits are worth to the eye.

Beside every prior stand real codes, which no prior made, and the same codes with some of their bits flipped: a score
that does not tell these apart says nothing about priors.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.diffusion.samplers import Sampler
from dmzcli.evaluation.features import Extractor, reference_of
from dmzcli.evaluation.scores import Score, difference, frechet
from dmzcli.generation.decode import decode
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.files import read_json, write_json
from dmzcli.system.interrupts import Interrupted, collected
from dmzcli.system.progress import Talk
from dmzcli.system.randomness import derive

FLIPS = (0.01, 0.02, 0.05)
"""Shares of flipped bits of the positive control."""
MARGIN = 0.2
"""A prior may be worse than real codes by this share of their score and still be called enough."""


@dataclass(frozen=True)
class Judged:
    """Codes' images beside those of real codes.

    Attributes:
        score: The Fréchet distance.
        commonest: Share of the images in the class that the features' network finds most often; ``None`` where it has
            no classes. Of balanced data with K classes it is about 1/K.
        worse: The score minus that of real codes, paired: the same noise, count and groups. ``None`` for real codes.
    """

    score: Score
    commonest: float | None
    worse: Score | None = None

    def beside(self, real: Judged) -> Judged:
        """The same, beside real codes."""
        return Judged(self.score, self.commonest, difference(self.score, real.score))

    def verdict(self, margin: float) -> str:
        """Whether it is worse than real codes by more than a margin, as far as its 95% interval says.

        ``enough`` if the whole interval lies below the margin, ``worse`` if it lies above, else ``undecided``; empty
        for real codes.
        """
        if self.worse is None:
            return ""
        low, high = self.worse.interval
        return "enough" if high < margin else "worse" if low > margin else "undecided"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        facts: dict[str, Any] = {"images": self.score.value, "images_error": self.score.error}
        facts["commonest_class"] = self.commonest
        if self.worse is not None:
            facts |= {"images_worse": self.worse.value, "images_worse_error": self.worse.error}
        return facts

    def cells(self, metric: str, margin: float) -> dict[str, str]:
        """As columns for a person."""
        worse = "" if self.worse is None else f"{self.worse.value:+.3g} ± {1.96 * self.worse.error:.2g}"
        return {
            metric: f"{self.score.value:.4g} ± {1.96 * self.score.error:.2g}",
            "beyond real": worse,
            "verdict": self.verdict(margin),
            "commonest": "" if self.commonest is None else f"{self.commonest:.0%}",
        }


@dataclass(frozen=True, eq=False)
class Images:
    """What turns codes into images, and scores them.

    Attributes:
        model: Decodes them, in evaluation mode.
        sampler: The sampler that decodes them.
        dataset, split: The reference.
        extractor: The features.
        count: Images of each prior.
        seed: Seed of the noise, the same for all.
        batch_size: Images at a time.
        precision: ``no`` (float32) or ``bf16`` for the network's evaluations.
        talk: Receives progress.
        weights: SHA-256 of the model's weights.
        spacing: Name of the sampler's spacing, where one was chosen.
        keep: Folder in which each set's score is kept, so that a stopped comparison goes on.
    """

    model: Autoencoder
    sampler: Sampler
    dataset: Dataset
    split: str
    extractor: Extractor
    count: int
    seed: int
    batch_size: int
    precision: str
    talk: Talk
    weights: str = ""
    keep: Path | None = None
    spacing: str | None = None

    def facts(self) -> dict[str, Any]:
        """What the scores depend on."""
        timesteps = self.sampler.process.timesteps.tolist()
        chosen = {} if self.spacing is None else {"spacing": self.spacing, "timesteps": timesteps}
        return {
            **chosen,
            "metric": self.extractor.metric("fid"),
            "count": self.count,
            "sampler": self.sampler.name,
            "steps": len(self.sampler.process),
            "precision": self.precision,
            "reference": {"dataset": self.dataset.identity, "split": self.split, "lossy": self.dataset.lossy},
            "extractor": {"name": self.extractor.name, "sha256": self.extractor.sha256},
        }

    def score(self, codes: np.ndarray, name: str) -> Judged:
        """The distance of the images of codes (N, D); image i is made with noise i, whatever the codes are.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the scores so far are kept.
        """
        file = None if self.keep is None else self.keep / f"{self._key(codes)}.json"
        if file is not None and file.exists():
            known = read_json(file)
            return Judged(
                Score.jackknifed(known["metric"], known["value"], known["left_out"]), known["commonest_class"]
            )
        judged = self._scored(codes, name)
        if file is not None:
            score = judged.score
            facts = {
                "of": name,
                "metric": score.metric,
                "value": score.value,
                "left_out": list(score.left_out),
            }
            write_json(file, {**facts, "commonest_class": judged.commonest})
        return judged

    def _key(self, codes: np.ndarray) -> str:
        """What a score depends on, as a name."""
        sampler = [self.sampler.law, self.sampler.process.timesteps.tolist(), self.sampler.eta]
        facts = json.dumps([self.facts(), self.seed, self.weights, sampler], sort_keys=True)
        return hashlib.sha256(facts.encode() + np.packbits(codes).tobytes()).hexdigest()[:16]

    def _scored(self, codes: np.ndarray, name: str) -> Judged:
        with collected() as signals, self.talk.task(f"images of {name}", len(codes)) as advance:

            def done(count: int) -> None:
                advance(count, "")
                if signals:
                    raise Interrupted(signals[0], "the scores so far are kept; run the same command to go on")

            images = decode(
                self.model,
                codes,
                self.sampler,
                range(len(codes)),
                self.seed,
                self.batch_size,
                done,
                self.precision,
            )
        reference = reference_of(self.extractor, self.dataset, self.split, talk=self.talk)
        features, logits = self.extractor(images)
        score = frechet(features, reference.moments, self.extractor.metric("fid"))
        if logits is None or self.extractor.facts.get("trained_on") != self.dataset.identity:
            return Judged(score, None)
        return Judged(score, float(np.bincount(logits.argmax(1)).max() / len(images)))

    def real(self, codes: np.ndarray) -> dict[float, Judged]:
        """The same of as many real codes, evenly spread, and of these with a share of their bits flipped.

        Returns:
            By the share that is flipped; 0 for the codes as they are. There must be as many codes as images.
        """
        chosen = spread(codes, self.count)
        found = {0.0: self.score(chosen, "held-out codes")}
        for share in FLIPS:
            name = f"held-out codes, {share:.0%} flipped"
            found[share] = self.score(flipped(chosen, share, self.seed), name).beside(found[0.0])
        return found


def flipped(codes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Codes uint8 (N, D), each bit flipped with a probability of its own."""
    chance = np.random.default_rng(derive("flips", seed)).random(codes.shape)
    return codes ^ (chance < share).astype(np.uint8)
