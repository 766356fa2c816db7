"""Which prior is enough: every kind fitted to one bit table, and measured on codes that it was not fitted to.

Choices are made on the valid split; every number of the table is measured on the test split (on valid where there is
no test split, and the table says so).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import priors
from dmzcli.codes.find import priors_folder
from dmzcli.codes.fit import fit, fitted_before, share_settings
from dmzcli.codes.table import BitTable
from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.diffusion.samplers import Sampler
from dmzcli.errors import UserError, did_you_mean
from dmzcli.evaluation.card import evaluate
from dmzcli.evaluation.features import Extractor
from dmzcli.evaluation.image_sets import ImageSet
from dmzcli.evaluation.scores import Score
from dmzcli.generation.decode import decode
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.system.files import atomic, write_json, write_markdown
from dmzcli.system.progress import Silence, Talk
from priors.measures import nearest_distances, two_sample_accuracy


@dataclass(frozen=True, eq=False)
class Images:
    """Codes as images, and their Fréchet distance to a split.

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

    def facts(self) -> dict[str, Any]:
        """What the scores depend on."""
        return {
            "metric": self.extractor.metric("fid"),
            "count": self.count,
            "sampler": self.sampler.name,
            "steps": len(self.sampler.process),
            "precision": self.precision,
            "reference": {"dataset": self.dataset.identity, "split": self.split, "lossy": self.dataset.lossy},
            "extractor": {"name": self.extractor.name, "sha256": self.extractor.sha256},
        }

    def score(self, codes: np.ndarray, name: str) -> Score:
        """The distance of the images of codes (N, D)."""
        with self.talk.task(f"images of {name}", len(codes)) as advance:
            images = decode(
                self.model,
                codes,
                self.sampler,
                range(len(codes)),
                self.seed,
                self.batch_size,
                lambda count: advance(count, ""),
                self.precision,
            )
        samples = ImageSet(images, name, "array")
        return evaluate(samples, self.dataset, self.split, self.extractor, ("fid",), self.seed).scores[0]

    def of_held_out(self, codes: np.ndarray) -> Score:
        """The same of as many real codes, evenly spread; there must be as many."""
        return self.score(spread(codes, self.count), "held-out codes")


SAMPLES = 10_000
"""Samples of a prior at most; as many as there are held-out codes where these are fewer."""


@dataclass(frozen=True)
class Row:
    """One prior's numbers.

    Attributes:
        kind: The prior's kind.
        exact: Whether its likelihood is exact; else the bits are an upper bound.
        memorises: Whether its samples are near copies of training codes.
        bits_per_code, bits_per_bit: Mean −log₂ p of held-out codes.
        gain: Bits per code below those of independent bits.
        two_sample: Accuracy of telling its samples from held-out codes; 0.5 is ideal.
        two_sample_error: Standard error of that under equality.
        duplicates: Share of samples that are training codes.
        nearest: Mean Hamming distance of samples to their nearest training code.
        parameters: Fitted numbers.
        fit_seconds: Wall time of the fit, its choices included.
        samples_per_second: Drawing and nothing else.
        images, images_error: Score of images decoded from its samples, and its standard error; ``None`` if there is
            none.
    """

    kind: str
    exact: bool
    memorises: bool
    bits_per_code: float
    bits_per_bit: float
    gain: float
    two_sample: float
    two_sample_error: float
    duplicates: float
    nearest: float
    parameters: int
    fit_seconds: float
    samples_per_second: float
    images: float | None = None
    images_error: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All rows, and what they were measured on.

    Attributes:
        rows: One per kind, best likelihood first.
        dim: D.
        split: Split of the held-out codes.
        held_out: Number of held-out codes.
        samples: Drawn from each prior.
        reference_nearest: Mean distance of the held-out codes themselves to their nearest training code.
        reference_duplicates: Share of them that are training codes.
        reference_two_sample: Accuracy of telling training codes from held-out ones: what a perfect prior scores.
        reference_two_sample_error: Standard error of that under equality.
        seed: Seed of everything random.
        settings: Options away from their defaults, of all kinds that have them.
        image_facts: What the images' scores depend on, their metric's name among it; ``None`` without images.
        reference_images: The same of images decoded from held-out codes.
    """

    rows: list[Row]
    dim: int
    split: str
    held_out: int
    samples: int
    reference_nearest: float
    reference_duplicates: float
    reference_two_sample: float
    reference_two_sample_error: float
    seed: int
    settings: tuple[str, ...] = ()
    image_facts: dict[str, Any] | None = None
    reference_images: float | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "settings": list(self.settings), "rows": [vars(row) for row in self.rows]}

    def table(self) -> list[dict[str, Any]]:
        """As rows for a person."""
        rows = []
        for row in self.rows:
            notes = ("" if row.exact else " (bound)") + (" (memorises)" if row.memorises else "")
            shown = {
                "prior": row.kind + notes,
                "bits/code": f"{row.bits_per_code:.2f}",
                "bits/bit": f"{row.bits_per_bit:.3f}",
                "gain": f"{row.gain:.2f}",
                "two-sample": f"{row.two_sample:.3f} ± {row.two_sample_error:.3f}",
                "duplicates": f"{row.duplicates:.1%}",
                "nearest": f"{row.nearest:.2f}",
                "parameters": f"{row.parameters:,}",
                "fit, s": f"{row.fit_seconds:.1f}",
                "samples/s": f"{row.samples_per_second:,.0f}",
            }
            if self.image_facts is not None and row.images is not None and row.images_error is not None:
                shown[self.image_facts["metric"]] = f"{row.images:.4g} ± {1.96 * row.images_error:.2g}"
            rows.append(shown)
        trained = dict.fromkeys(rows[0], "")
        trained["prior"] = "(train codes)"
        trained["two-sample"] = f"{self.reference_two_sample:.3f} ± {self.reference_two_sample_error:.3f}"
        held_out = dict.fromkeys(rows[0], "")
        held_out["prior"] = f"({self.split} codes)"
        held_out["duplicates"] = f"{self.reference_duplicates:.1%}"
        held_out["nearest"] = f"{self.reference_nearest:.2f}"
        if self.image_facts is not None:
            held_out[self.image_facts["metric"]] = f"{self.reference_images:.4g}"
        return [*rows, trained, held_out]


def _measure(
    prior: priors.Prior, train: np.ndarray, held_out: np.ndarray, independent: float, seed: int
) -> Row:
    assert prior.report is not None
    bits = float(-prior.log_prob(held_out).mean() / np.log(2))
    count = min(SAMPLES, len(held_out))
    start = time.perf_counter()
    samples = prior.sample(count, seed=seed)
    seconds = time.perf_counter() - start
    told = two_sample_accuracy(samples, held_out, seed)
    nearest = nearest_distances(samples, train)
    return Row(
        kind=prior.kind,
        exact=prior.exact,
        memorises=prior.memorises,
        bits_per_code=bits,
        bits_per_bit=bits / prior.dim,
        gain=independent - bits,
        two_sample=told.accuracy,
        two_sample_error=told.error,
        duplicates=float((nearest == 0).mean()),
        nearest=float(nearest.mean()),
        parameters=prior.report.parameters,
        fit_seconds=prior.report.seconds,
        samples_per_second=count / seconds,
    )


def compare(
    table: BitTable,
    path: Path,
    kinds: Sequence[str] = (),
    seed: int = 0,
    folder: Path | None = None,
    talk: Talk | None = None,
    images: Images | None = None,
    settings: Sequence[str] = (),
) -> Comparison:
    """Fits kinds of priors to a table and measures them; what was fitted before in the same way is taken as it is.

    Arguments:
        table: The codes.
        path: The table's file.
        kinds: Kinds to compare; all registered ones by default.
        seed: Seed of fits, samples and tests.
        folder: Where each fitted prior goes, in a folder named after its kind; by default the table's run.
        talk: Receives progress.
        images: What turns codes into images and scores them; ``None`` compares codes alone. No more images of each
            prior than there are held-out codes, whose images they stand next to.
        settings: Options as ``name=value``, each for all kinds that have it.

    Raises:
        UserError: A kind or an option is unknown, or there are too few held-out codes.
    """
    talk = talk or Silence()
    known = priors.available()
    for kind in kinds:
        if kind not in known:
            raise UserError(f"unknown kind '{kind}'", did_you_mean(kind, known, "kinds"))
    chosen = share_settings(settings, kinds or known)
    split = "test" if len(table.rows("test")) else "valid"
    train, held_out = table.bits[table.rows("train")], table.bits[table.rows(split)]
    for codes, name in ((held_out, "held-out"), (train, "training")):
        if len(codes) < 20:
            raise UserError(f"{path} has {len(codes)} {name} codes", "at least 20 are needed")
    if images is not None and images.count > len(held_out):
        asked, images = images.count, replace(images, count=len(held_out))
        talk.say(
            f"{images.count:,} images of each instead of {asked:,}: there are {len(held_out):,} {split} codes"
        )
    baseline = priors.create("bernoulli", dim=table.dim, seed=seed)
    baseline.fit(train, valid=table.bits[table.rows("valid")] if len(table.rows("valid")) else None)
    independent = float(-baseline.log_prob(held_out).mean() / np.log(2))
    rows = []
    for kind in kinds or known:
        out = priors_folder(table, path) / kind if folder is None else folder / kind
        try:
            prior = fitted_before(table, path, kind, chosen[kind], seed, out)
        except priors.PriorError as error:
            talk.say(f"{error}; it is fitted again")
            prior = None
        if prior is None:
            talk.say(f"{kind}: fitting")
            prior = fit(table, path, kind, chosen[kind], seed=seed, out=out, talk=talk).prior
        else:
            talk.say(f"{kind}: as fitted before")
        row = _measure(prior, train, held_out, independent, seed)
        if images is not None:
            score = images.score(prior.sample(images.count, seed=seed), kind)
            row = replace(row, images=score.value, images_error=score.error)
        rows.append(row)
    reference, real = nearest_distances(held_out, train), two_sample_accuracy(train, held_out, seed)
    return Comparison(
        rows=sorted(rows, key=lambda row: row.bits_per_code),
        dim=table.dim,
        split=split,
        held_out=len(held_out),
        samples=min(SAMPLES, len(held_out)),
        reference_nearest=float(reference.mean()),
        reference_duplicates=float((reference == 0).mean()),
        reference_two_sample=real.accuracy,
        reference_two_sample_error=real.error,
        seed=seed,
        settings=tuple(settings),
        image_facts=None if images is None else images.facts(),
        reference_images=None if images is None else images.of_held_out(held_out).value,
    )


def write(comparison: Comparison, folder: Path) -> None:
    """Writes ``comparison.json``, ``comparison.md`` and ``comparison.png``."""
    from matplotlib.figure import Figure

    write_json(folder / "comparison.json", comparison.facts())
    write_markdown(folder / "comparison.md", comparison.table())
    panels = 2 if comparison.image_facts is None else 3
    figure = Figure(figsize=(4 * panels, 0.4 * len(comparison.rows) + 1.6), dpi=110, layout="constrained")
    left, right, *third = figure.subplots(1, panels, sharey=True)
    names = [row.kind for row in comparison.rows]
    left.barh(names, [row.bits_per_code for row in comparison.rows])
    left.set(xlabel=f"{comparison.split} bits per code", title="likelihood (shorter is better)")
    right.barh(
        names,
        [row.two_sample - 0.5 for row in comparison.rows],
        left=0.5,
        xerr=comparison.rows[0].two_sample_error,
    )
    right.set(
        xlabel="two-sample accuracy", title="samples (0.5 is ideal)", xlim=(min(0.45, right.get_xlim()[0]), 1)
    )
    if comparison.image_facts is not None:
        errors = [1.96 * (row.images_error or 0.0) for row in comparison.rows]
        third[0].barh(names, [row.images or 0.0 for row in comparison.rows], xerr=errors)
        third[0].axvline(comparison.reference_images, color="black", linestyle=":", label="held-out codes")
        third[0].set(
            xlabel=comparison.image_facts["metric"], title="images (shorter is better)", xscale="symlog"
        )
        third[0].legend(loc="upper right")
    left.invert_yaxis()
    with atomic(folder / "comparison.png") as temporary:
        figure.savefig(temporary, format="png")
