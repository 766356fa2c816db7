"""Which prior is enough: every kind fitted to one bit table, and measured on codes that it was not fitted to.

Choices are made on the valid split; every number of the table is measured on the test split (on valid where there is
no test split, and the table says so).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import priors
from dmzcli.codes.find import priors_folder
from dmzcli.codes.fit import fit, fitted_before, share_settings
from dmzcli.codes.table import BitTable
from dmzcli.errors import UserError, did_you_mean
from dmzcli.studies.code_images import MARGIN, Images
from dmzcli.studies.prior_table import Comparison, Row
from dmzcli.system.progress import Silence, Talk
from priors.measures import nearest_distances, two_sample_accuracy

SAMPLES = 10_000
"""Samples of a prior at most; as many as there are held-out codes where these are fewer."""


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


def fitted(
    table: BitTable, path: Path, kind: str, settings: Sequence[str], seed: int, out: Path, talk: Talk
) -> priors.Prior:
    """A prior of a table: as it was fitted before in the same way, else fitted now.

    Arguments:
        table, path: The codes, and their file.
        kind: Kind of the prior.
        settings: Its options as ``name=value``.
        seed: Seed of the fit.
        out: Its folder.
        talk: Receives progress.
    """
    try:
        prior = fitted_before(table, path, kind, settings, seed, out)
    except priors.PriorError as error:
        talk.say(f"{error}; it is fitted again")
        prior = None
    if prior is not None:
        talk.say(f"{kind}: as fitted before")
        return prior
    talk.say(f"{kind}: fitting")
    return fit(table, path, kind, settings, seed=seed, out=out, talk=talk).prior


def compare(
    table: BitTable,
    path: Path,
    kinds: Sequence[str] = (),
    seed: int = 0,
    folder: Path | None = None,
    talk: Talk | None = None,
    images: Images | None = None,
    settings: Sequence[str] = (),
    margin: float = MARGIN,
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
        margin: See :class:`~dmzcli.studies.prior_table.Comparison`.

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
    if images is not None and images.split == split:
        talk.say(f"the reference's images are those whose codes stand as real ones: {split} has seen itself")
    real_images = {} if images is None else images.real(held_out)
    baseline = priors.create("bernoulli", dim=table.dim, seed=seed)
    baseline.fit(train, valid=table.bits[table.rows("valid")] if len(table.rows("valid")) else None)
    independent = float(-baseline.log_prob(held_out).mean() / np.log(2))
    rows = []
    for kind in kinds or known:
        out = priors_folder(table, path) / kind if folder is None else folder / kind
        prior = fitted(table, path, kind, chosen[kind], seed, out, talk)
        row = _measure(prior, train, held_out, independent, seed)
        if images is not None:
            codes = prior.sample(images.count, seed=seed)
            row = replace(row, judged=images.score(codes, kind).beside(real_images[0.0]))
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
        real=real_images,
        margin=margin,
    )
