"""What a study measures of a trained run. A new measure is one class, and one line in :data:`MEASURES`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

import priors
from dmzcli.analysis.probes.table import probe_table
from dmzcli.codes.table import BitTable
from dmzcli.data import SPLITS, Dataset
from dmzcli.data.dataset import spread
from dmzcli.diffusion.names import check as check_name
from dmzcli.errors import UserError, did_you_mean
from dmzcli.evaluation.features import FEWEST, create
from dmzcli.evaluation.reconstruction import reconstruct
from dmzcli.evaluation.sources import usual_features
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.studies.prior_comparison import compare, fitted
from dmzcli.studies.step_sweep import Source, encoded_source, plain_source, prior_source, sweep
from dmzcli.studies.study.parts import Part
from dmzcli.system.progress import Talk

ENCODED = "encoded"
"""Name of the source whose bits are those of test images."""


@dataclass(frozen=True)
class Trained:
    """A cell after its training, and how it is to be measured.

    Attributes:
        run, model: The run, and its model in evaluation mode.
        dataset: Its images.
        table: Its bit table; ``None`` for a plain diffusion model.
        prior_settings: Options of priors as ``name=value``, each for all kinds that have it.
        seed: Seed of fits, samples and noise.
        device: Where to compute.
        batch_size: Images at a time; ``None`` for what suits the device.
        talk: Receiver of messages and progress.
    """

    run: Run
    model: Autoencoder
    dataset: Dataset
    table: BitTable | None
    prior_settings: tuple[str, ...]
    seed: int
    device: torch.device
    batch_size: int | None
    talk: Talk


@dataclass(frozen=True)
class Number:
    """One measured number.

    Attributes:
        what: What it is, with its unit or counts.
        where: What it was measured at besides the cell's own axes, such as the prior and T.
        value: The number.
        error: Its standard error, of this training alone.
    """

    what: str
    where: Mapping[str, str | int]
    value: float
    error: float


class Measure(Part):
    """Something that is measured of every cell; its fields are its options."""

    needs_bits: ClassVar[bool] = True
    """Whether a plain diffusion model has nothing to measure; such cells are left empty."""

    def kinds(self) -> tuple[str, ...]:
        """The kinds of priors that it fits."""
        return ()

    def check(self, dataset: Dataset) -> None:
        """Refuses what cannot be measured on a dataset, before anything is trained.

        Raises:
            UserError: An option does not fit the dataset.
        """

    @abstractmethod
    def take(self, trained: Trained) -> list[Number]:
        """The numbers of one cell."""


def _check_split(split: str, dataset: Dataset) -> None:
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}'", did_you_mean(split, SPLITS, "splits"))
    if not len(dataset.rows(split)):
        raise UserError(f"{dataset.name} has no {split} images", "name another split")


class Scores(Measure):
    """Fréchet distance of samples by their bits' source, sampler and T: :mod:`~dmzcli.studies.step_sweep`.

    Attributes:
        bits: Kinds of priors, and ``encoded`` for the bits of test images.
        samplers, steps, spacing, precision: How images are sampled; every sampler with every T.
        count: Images of a score.
        split: The reference's split.
        features: Feature network; by default what suits the images.
    """

    needs_bits = False
    bits: tuple[str, ...] = ("uniform", ENCODED)
    samplers: tuple[str, ...] = ("unipc",)
    steps: tuple[int, ...] = (10,)
    spacing: str | None = None
    precision: str = "no"
    count: int = Field(default=10_000, ge=FEWEST)
    split: str = "train"
    features: str | None = None

    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in self.bits if kind != ENCODED)

    def check(self, dataset: Dataset) -> None:
        _check_split(self.split, dataset)
        for name in self.samplers:
            check_name("sampler", name)

    def take(self, trained: Trained) -> list[Number]:
        features = self.features or usual_features(trained.dataset, self.split)
        extractor = create(features, trained.dataset, trained.device, talk=trained.talk)
        recipe = Recipe(spacing=self.spacing, precision=self.precision)
        recipe = recipe.on(trained.device, trained.run.config)
        table = sweep(
            *(
                self._sources(trained),
                self.samplers,
                self.steps,
                self.count,
                trained.dataset,
                self.split,
                extractor,
            ),
            *(trained.run.path / "sweeps" / "study", trained.seed, trained.batch_size, recipe, trained.talk),
        )
        what = f"{table.metric}, {self.count:,} images against {self.split}"
        numbers = [
            Number(what, {"bits from": c.source, "sampler": c.sampler, "T": c.steps}, c.value, c.error)
            for c in table.cells
        ]
        if table.real is not None:
            numbers.append(
                Number(f"{table.metric}, {table.real_count:,} real test images", {}, table.real, 0.0)
            )
        return numbers

    def _sources(self, trained: Trained) -> list[Source]:
        run, model, count = trained.run, trained.model, self.count
        if trained.table is None:
            return [plain_source(run, model)]
        sources = []
        for name in self.bits:
            if name == ENCODED:
                sources.append(encoded_source(run, model, trained.dataset, count))
            else:
                _fitted(trained, name)
                sources.append(prior_source(run, model, name, count, trained.seed))
        return sources


def _fitted(trained: Trained, kind: str) -> None:
    """Fits a kind of prior to the cell's bits, unless that is done."""
    assert trained.table is not None
    settings = [each for each in trained.prior_settings if _has((kind,), each)]
    out = trained.run.priors / kind
    fitted(trained.table, trained.run.bits, kind, settings, trained.seed, out, trained.talk)


class Codes(Measure):
    """Held-out bits per code under each kind of prior: :mod:`~dmzcli.studies.prior_comparison`.

    Attributes:
        priors: Kinds of priors.
    """

    priors: tuple[str, ...] = ("bernoulli", "chow-liu-mixture")

    def kinds(self) -> tuple[str, ...]:
        return self.priors

    def take(self, trained: Trained) -> list[Number]:
        assert trained.table is not None
        settings = [each for each in trained.prior_settings if _has(self.priors, each)]
        table = compare(
            trained.table,
            trained.run.bits,
            self.priors,
            trained.seed,
            trained.run.priors,
            trained.talk,
            settings=settings,
        )
        what = f"held-out bits per code, {table.held_out:,} {table.split} codes"
        return [Number(what, {"prior": row.kind}, row.bits_per_code, 0.0) for row in table.rows]


def _has(kinds: tuple[str, ...], setting: str) -> bool:
    """Whether one of these kinds has an option."""
    name = setting.partition("=")[0]
    return any(name in priors.describe(kind)["options"] for kind in kinds)


class LinearProbe(Measure):
    """Test accuracy of a linear probe of the labels.

    Attributes:
        baselines: Whether the untrained encoder's bits and the pixels are probed as well.
    """

    baselines: bool = False

    def check(self, dataset: Dataset) -> None:
        if dataset.labels is None:
            raise UserError(f"{dataset.name} has no labels to probe", "leave [measure.probe] out")

    def take(self, trained: Trained) -> list[Number]:
        assert trained.table is not None
        dataset, config = (trained.dataset, trained.run.config) if self.baselines else (None, None)
        tested = len(trained.table.rows("test"))
        return [
            Number(
                f"accuracy of a linear probe, {tested:,} test images",
                {"of": each.name},
                each.test_accuracy,
                sqrt(each.test_accuracy * (1 - each.test_accuracy) / tested),
            )
            for each in probe_table(trained.table, dataset, config, trained.device, trained.talk)
        ]


class Reconstruction(Measure):
    """MSE, PSNR and SSIM of images decoded from their own bits.

    Attributes:
        count: Images, evenly spread over the split.
        split: Their split.
        sampler, steps: How they are decoded.
    """

    count: int = Field(default=1000, ge=1)
    split: str = "test"
    sampler: str = "unipc"
    steps: int = Field(default=10, ge=1)

    def check(self, dataset: Dataset) -> None:
        _check_split(self.split, dataset)
        check_name("sampler", self.sampler)

    def take(self, trained: Trained) -> list[Number]:
        model = trained.model
        images = np.asarray(trained.dataset.images[spread(trained.dataset.rows(self.split), self.count)])
        sampler = Recipe(self.sampler, self.steps).of(trained.run).create(model.config.diffusion)
        pairs = reconstruct(
            model, images, sampler, trained.seed, trained.batch_size, perceptual=None, talk=trained.talk
        )
        where: dict[str, Any] = {"sampler": self.sampler, "T": self.steps}
        kind = f"reconstruction, {len(images):,} {self.split} images"
        return [
            Number(f"{score.metric} of {kind}", where, score.value, score.error) for score in pairs.scores
        ]


MEASURES: dict[str, type[Measure]] = {
    "scores": Scores,
    "codes": Codes,
    "probe": LinearProbe,
    "reconstruction": Reconstruction,
}
