"""What a study measures of a trained run. A new measure is one class, and one line in :data:`MEASURES`."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import torch
from pydantic import Field, field_validator

import priors
from dmzcli.analysis.probes.table import probe_table
from dmzcli.codes.draw import check_prefix, with_absent
from dmzcli.codes.encode import bits_of
from dmzcli.codes.fit import Fitted, fit
from dmzcli.codes.table import BitTable
from dmzcli.config import Config
from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.diffusion.names import TUNED
from dmzcli.diffusion.names import check as check_name
from dmzcli.errors import UserError
from dmzcli.evaluation import limits
from dmzcli.evaluation.distances import distances
from dmzcli.evaluation.features import FEWEST, create
from dmzcli.evaluation.sources import usual_features
from dmzcli.generation.decode import decode, usual_batch
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.studies.step_sweep import PLAIN, Source, encoded_source, plain_source, prior_source, sweep
from dmzcli.studies.study.parts import Part
from dmzcli.system.progress import Talk

Positive: TypeAlias = Annotated[int, Field(ge=1)]

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

    @field_validator("*")
    @classmethod
    def _once(cls, value: Any) -> Any:
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise ValueError("a value is named twice")
        return value

    def check(self, dataset: Dataset, config: Config) -> None:
        """Refuses what cannot be measured of a cell, before anything is trained.

        Raises:
            UserError: An option does not fit the dataset or the model.
        """

    @abstractmethod
    def take(self, trained: Trained) -> list[Number]:
        """The numbers of one cell."""


def _check_split(split: str, dataset: Dataset) -> None:
    limits.check_split(split)
    if not len(dataset.rows(split)):
        raise UserError(f"{dataset.name} has no {split} images", "name another split")


def _check_prefixes(prefixes: tuple[int, ...], config: Config) -> None:
    """Refuses prefixes of which a nested cell has none, or that cut a variable."""
    if not (prefixes and config.model.nested):
        return
    if min(prefixes) > config.model.dim:
        raise UserError(
            f"prefixes {list(prefixes)} are all of more bits than {config.model.dim}", "name smaller ones"
        )
    for prefix in prefixes:
        if prefix <= config.model.dim:
            check_prefix(config, prefix, config.model.dim)


class Scores(Measure):
    """Fréchet distance of samples by their bits' source, sampler and T: :mod:`~dmzcli.studies.step_sweep`.

    Attributes:
        bits: Kinds of priors, and ``encoded`` for the bits of test images; ``plain`` for none, of nested bits.
        samplers, steps, spacing, precision: How images are sampled; every sampler with every T.
        count: Images of a score.
        split: The reference's split.
        features: Feature network; by default what suits the images.
        prefixes: Of nested bits, numbers of the first, each with priors of its own; by default all.
        guidance: Of nested bits, weights w.
        guidance_interval: Noise levels at which guidance acts, as ``from,to``; by default all.
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
    prefixes: tuple[Positive, ...] = ()
    guidance: tuple[float, ...] = (1.0,)
    guidance_interval: str | None = None

    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in self.bits if kind not in (ENCODED, PLAIN))

    def check(self, dataset: Dataset, config: Config) -> None:
        _check_split(self.split, dataset)
        _check_prefixes(self.prefixes, config)
        if PLAIN in self.bits and config.model.dim and not config.model.nested:
            raise UserError(
                f"bits = '{PLAIN}' needs bits that may be absent", "leave it out, or set model.nested = true"
            )
        if self.guidance_interval is not None and self.guidance == (1.0,):
            raise UserError("guidance_interval means nothing without guidance", "leave it out")
        for recipe in self._recipes():
            recipe.check()
            if config.model.dim:
                recipe.guided(config)
            for name, steps in itertools.product(self.samplers, self.steps):
                check_name("sampler", name)
                if recipe.spacing != TUNED:
                    replace(recipe, sampler=name, steps=steps).create(config.diffusion)

    def _recipes(self) -> list[Recipe]:
        at = self.guidance_interval
        return [
            Recipe(
                spacing=self.spacing,
                precision=self.precision,
                guidance=w,
                guidance_interval=at if w != 1 else None,
            )
            for w in self.guidance
        ]

    def take(self, trained: Trained) -> list[Number]:
        features = self.features or usual_features(trained.dataset, self.split)
        extractor = create(features, trained.dataset, trained.device, talk=trained.talk)
        sources = self._sources(trained)
        wheres = {source.name: where for source, where in sources}
        numbers: list[Number] = []
        for recipe in self._recipes():
            name = "study" if recipe.guidance == 1 else f"study-w{recipe.guidance:g}"
            table = sweep(
                *([source for source, _ in sources], self.samplers, self.steps, self.count),
                *(trained.dataset, self.split, extractor, trained.run.path / "sweeps" / name),
                *(
                    trained.seed,
                    trained.batch_size,
                    recipe.on(trained.device, trained.run.config),
                    trained.talk,
                ),
            )
            what = f"{table.metric}, {self.count:,} images against {self.split}"
            weight = {"w": f"{recipe.guidance:g}"} if len(self.guidance) > 1 else {}
            for cell in table.cells:
                where = {**wheres[cell.source], "sampler": cell.sampler, "T": cell.steps, **weight}
                numbers.append(Number(what, where, cell.value, cell.error))
            if table.real is not None and recipe.guidance == self.guidance[0]:  # alike for every w
                numbers.append(
                    Number(what, {"bits from": f"({table.real_count:,} test images)"}, table.real, 0.0)
                )
        return numbers

    def _sources(self, trained: Trained) -> list[tuple[Source, dict[str, str | int]]]:
        """Where bits are from, each with what tables call it."""
        run, model, count = trained.run, trained.model, self.count
        if trained.table is None:
            return [(plain_source(run, model), {"bits from": PLAIN})]
        sources: list[tuple[Source, dict[str, str | int]]] = []
        for name in self.bits:
            if name == PLAIN:
                sources.append((plain_source(run, model, count), {"bits from": PLAIN}))
                continue
            for prefix in _prefixes(self.prefixes, model):
                where = _where("bits from", name, prefix if self.prefixes else None)
                kept = prefix if prefix < model.dim else None
                if name == ENCODED:
                    sources.append((encoded_source(run, model, trained.dataset, count, kept), where))
                else:
                    folder = str(_fitted(trained, name, kept).folder)
                    sources.append((prior_source(run, model, folder, count, trained.seed), where))
        return sources


def _where(name: str, value: str, prefix: int | None) -> dict[str, str | int]:
    """Where a number was measured; the prefix is named where several were asked for."""
    return {name: value} if prefix is None else {name: value, "prefix": prefix}


def _prefixes(asked: tuple[int, ...], model: Autoencoder) -> list[int]:
    """The prefixes that a model can do with: all its bits alone, unless they are nested."""
    if not (asked and model.config.model.nested):
        return [model.dim]
    return [prefix for prefix in asked if prefix <= model.dim]


def _fitted(trained: Trained, kind: str, prefix: int | None = None) -> Fitted:
    """A kind of prior of the cell's bits, or of the first of them: fitted unless that is done."""
    table, run = trained.table, trained.run
    assert table is not None
    settings = [each for each in trained.prior_settings if _has(kind, each)]
    named: Any = {"seed": trained.seed, "talk": trained.talk, "run": run.path, "prefix": prefix}
    try:
        return fit(table, run.bits, kind, settings, **named, reuse=True)
    except priors.PriorError as error:  # what is there is damaged
        trained.talk.say(f"{error}; it is fitted again")
        return fit(table, run.bits, kind, settings, **named)


class Codes(Measure):
    """Held-out bits per code under each kind of prior.

    Attributes:
        priors: Kinds of priors.
        prefixes: Of nested bits, numbers of the first; by default all.
    """

    priors: tuple[str, ...] = ("bernoulli", "chow-liu-mixture")
    prefixes: tuple[Positive, ...] = ()

    def kinds(self) -> tuple[str, ...]:
        return self.priors

    def check(self, dataset: Dataset, config: Config) -> None:
        _check_split("test", dataset)
        _check_prefixes(self.prefixes, config)

    def take(self, trained: Trained) -> list[Number]:
        table = trained.table
        assert table is not None
        codes = table.bits[table.rows("test")]
        what = f"held-out bits per code, {len(codes):,} test codes"
        numbers = []
        for prefix in _prefixes(self.prefixes, trained.model):
            for kind in self.priors:
                prior = _fitted(trained, kind, prefix if prefix < table.dim else None).prior
                bits = -prior.log_prob(codes[:, :prefix]) / np.log(2)
                where = _where("prior", kind, prefix if self.prefixes else None)
                numbers.append(Number(what, where, float(bits.mean()), float(bits.std() / sqrt(len(bits)))))
        return numbers


def _has(kind: str, setting: str) -> bool:
    """Whether a kind of prior has an option."""
    return setting.partition("=")[0] in priors.describe(kind)["options"]


class LinearProbe(Measure):
    """Test accuracy of a linear probe of the labels.

    Attributes:
        baselines: Whether the untrained encoder's bits and the pixels are probed as well.
        prefixes: Of nested bits, numbers of the first; by default all.
    """

    baselines: bool = False
    prefixes: tuple[Positive, ...] = ()

    def check(self, dataset: Dataset, config: Config) -> None:
        _check_prefixes(self.prefixes, config)
        if dataset.labels is None:
            raise UserError(f"{dataset.name} has no labels to probe", "leave [measure.probe] out")

    def take(self, trained: Trained) -> list[Number]:
        assert trained.table is not None
        dataset, config = (trained.dataset, trained.run.config) if self.baselines else (None, None)
        tested, numbers = len(trained.table.rows("test")), []
        what = f"accuracy of a linear probe, {tested:,} test images"
        for prefix in _prefixes(self.prefixes, trained.model):
            table = trained.table.prefix(prefix)
            for each in probe_table(table, dataset, config, trained.device, trained.talk):
                where = _where("of", each.name, prefix if self.prefixes else None)
                error = sqrt(each.test_accuracy * (1 - each.test_accuracy) / tested)
                numbers.append(Number(what, where, each.test_accuracy, error))
        return numbers


class Reconstruction(Measure):
    """MSE, PSNR and SSIM of images decoded from their own bits.

    Attributes:
        count: Images, evenly spread over the split.
        split: Their split.
        sampler, steps: How they are decoded.
        prefixes: Of nested bits, numbers of the first; by default all.
    """

    count: int = Field(default=1000, ge=1)
    split: str = "test"
    sampler: str = "unipc"
    steps: int = Field(default=10, ge=1)
    prefixes: tuple[Positive, ...] = ()

    def check(self, dataset: Dataset, config: Config) -> None:
        _check_split(self.split, dataset)
        _check_prefixes(self.prefixes, config)
        check_name("sampler", self.sampler)
        Recipe(self.sampler, self.steps).create(config.diffusion)

    def take(self, trained: Trained) -> list[Number]:
        model, recipe = trained.model, Recipe(self.sampler, self.steps).of(trained.run)
        images = np.asarray(trained.dataset.images[spread(trained.dataset.rows(self.split), self.count)])
        sampler, bits, numbers = recipe.create(model.config.diffusion), bits_of(model, images), []
        kind = f"reconstruction, {len(images):,} {self.split} images"
        batch = trained.batch_size or usual_batch(model)
        for prefix in _prefixes(self.prefixes, model):
            codes = with_absent(bits[:, :prefix], model.dim)
            decoded = decode(model, codes, sampler, range(len(images)), trained.seed, batch)
            where: dict[str, str | int] = {"sampler": self.sampler, "T": self.steps}
            where |= {"prefix": prefix} if self.prefixes else {}
            scores, _ = distances(images, decoded)
            numbers += [Number(f"{each.metric} of {kind}", where, each.value, each.error) for each in scores]
        return numbers


MEASURES: dict[str, type[Measure]] = {
    "scores": Scores,
    "codes": Codes,
    "probe": LinearProbe,
    "reconstruction": Reconstruction,
}
