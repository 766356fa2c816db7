"""The bound of a run on a split, with its card and its plot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.data import Dataset
from dmzcli.data.dataset import spread
from dmzcli.diffusion.bound import Bound, bound_terms, prior_term, strata
from dmzcli.diffusion.process import Diffusion
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.model.pixels import to_unit
from dmzcli.runs import Run
from dmzcli.system.files import atomic, write_json
from dmzcli.system.locks import WHILE, hold
from dmzcli.system.progress import Silence, Talk
from dmzcli.system.randomness import stream

Array = np.ndarray


def bound(
    model: Autoencoder,
    images: Array,
    seed: int = 0,
    every: int = 1,
    batch_size: int = 64,
    log_prob: Callable[[Array], Array] | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> Bound:
    """The bound of images, given the bits that the model encodes them to.

    Arguments:
        model: The autoencoder, in evaluation mode.
        images: uint8 (N, H, W, C).
        seed: Seed of timesteps and noise; image i depends on (seed, i) alone.
        every: 1 evaluates all timesteps; k draws one of up to k for every image, see :func:`strata`, which leaves the
            expectation.
        batch_size: Images at a time.
        log_prob: A prior's log-probability of codes (N, D), nats; ``None`` leaves their cost out.
        done: Told how many images are finished.

    Raises:
        UserError: There are no images, they do not fit the model, ``every`` is no number of timesteps, or a prior is
            named for a model without bits.
    """
    if not len(images):
        raise UserError("there are no images to measure", "choose a split that has some")
    model.check_images(images, "measure on the dataset that the model was trained on")
    trained, device = model.config.diffusion, model.device
    process, variances = Diffusion(trained), [trained]
    if trained.variance == "fixed-small":
        variances.append(trained.model_copy(update={"variance": "fixed-large"}))
    processes = [Diffusion(config) for config in variances]
    if not 1 <= every < len(process):
        raise UserError(
            f"--every {every} does not fit a model of {len(process)} timesteps",
            f"choose 1 to {len(process) - 1}",
        )
    if log_prob is not None and not model.dim:
        raise UserError("a model with latent 'none' has no bits for a prior to code", "leave --prior out")
    priors, terms, costs = [], [], []
    for start in range(0, len(images), batch_size):
        x0 = to_unit(images[start : start + batch_size], device)
        generators = [stream("likelihood", seed, start + i) for i in range(len(x0))]
        with torch.no_grad():
            codes = model.bits(x0) if model.dim else None
            denoiser = model.denoiser(codes)
        terms.append([part.numpy() for part in bound_terms(processes, denoiser, x0, every, generators)])
        priors.append(prior_term(process, x0).numpy())
        if log_prob is not None and codes is not None:
            costs.append(-log_prob(codes.cpu().numpy()) / math.log(2) / x0[0].numel())
        done(start + len(x0))
    bits, last = np.concatenate(costs) if costs else None, np.concatenate(priors)
    bounds = [
        Bound(last, *strata(len(process), every), np.concatenate(part), bits)
        for part in zip(*terms, strict=True)
    ]
    if not np.isfinite(bounds[0].terms).all():
        raise UserError(
            "the bound is no finite number",
            "the weights are damaged, or training has failed: train the run anew",
        )
    return replace(bounds[0], large=bounds[1].total) if bounds[1:] else bounds[0]


def _log_prob(run: Run, name: str, dim: int) -> tuple[Callable[[Array], Array], dict[str, Any]]:
    """A prior's log-probabilities, and what the card says of it."""
    from dmzcli.codes.find import find_prior, load_prior

    if not dim:
        raise UserError("a model with latent 'none' has no bits for a prior to code", "leave --prior out")
    folder = find_prior(run, name)
    prior = load_prior(folder, run, dim)
    if prior.given_dim:
        raise UserError(
            f"{folder} is a prior given {prior.given_dim} other bits, such as labels: it has no p(bits) alone",
            "fit one without --given",
        )
    return prior.log_prob, {"prior": prior.kind, "prior_exact": prior.exact}


def measure(
    run: Run,
    model: Autoencoder,
    dataset: Dataset,
    split: str,
    count: int,
    every: int,
    prior: str | None,
    seed: int,
    out: Path,
    batch_size: int = 64,
    talk: Talk | None = None,
) -> tuple[dict[str, Any], Path]:
    """Measures the bound on a split and writes ``likelihood-<split>[-<prior>].json`` and ``.png``.

    Arguments:
        run: The run of the weights and priors.
        model: The run's, in evaluation mode.
        dataset: The run's.
        split: ``train``, ``valid`` or ``test``.
        count: Images at most, evenly spread over the split.
        every, seed, batch_size: Arguments of :func:`bound`.
        prior: A kind or folder that prices the bits; ``None`` leaves them free.
        out: Folder of the two files.
        talk: Receives progress.

    Returns:
        The card, and its file.

    Raises:
        UserError: The split or the prior is unknown, or something does not fit the model.
    """
    talk = talk or Silence()
    rows = spread(dataset.rows(split), count)
    log_prob, priced = _log_prob(run, prior, model.dim) if prior is not None else (None, {"prior": None})
    with talk.task("measuring", len(rows)) as advance:
        result = bound(
            model, dataset.images[rows], seed, every, batch_size, log_prob, lambda done: advance(done, "")
        )
    card: dict[str, Any] = {
        "metric": "variational bound, bits per dimension",
        "bounds": "-log p(x | z(x))" if model.dim and prior is None else "-log p(x)",
        **result.facts(),
        **priced,
        "dataset": dataset.identity,
        "split": split,
        "lossy": dataset.lossy,
        "every": every,
        "seed": seed,
        "model": run.weights_hash,
    }
    file = out / f"likelihood-{split}{'' if prior is None else '-' + str(priced['prior'])}.json"
    title = f"{run.path.name}, {len(rows):,} {split} images: {card['bounds']}"
    with hold(file, patience=WHILE):
        write_json(file, card)
        plot(result, file.with_suffix(".png"), title)
    return card, file


def plot(bound: Bound, file: Path, title: str) -> None:
    """Writes the terms over timesteps: each, and what they add up to from the image on, which ends at the bound."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    mean = bound.terms.mean(0)
    at = bound.starts + (bound.lengths - 1) / 2  # the middle of a stratum
    left.plot(at, np.maximum(mean, 1e-12), "o-" if len(at) < 60 else "-", markersize=3, linewidth=1.4)
    left.set(xscale="symlog", yscale="log", xlabel="timestep", ylabel="bits per dimension", title="each term")
    right.plot(*running_sum(bound), linewidth=1.4)
    start = "" if bound.bits is None else f"from the bits' {bound.bits.mean():.4f} "
    right.set(xlabel="timestep", title=f"sum {start}to {bound.total:.4f} with x_T", ylim=(0, None))
    for axes in (left, right):
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    with atomic(file) as temporary:
        figure.savefig(temporary, format="png")


def running_sum(bound: Bound) -> tuple[Array, Array]:
    """Timesteps, and what the bound amounts to up to each: the bits' cost at 0, all of it, x_T among it, at the end."""
    ends = np.concatenate([[0], bound.starts + bound.lengths])
    first = 0.0 if bound.bits is None else float(bound.bits.mean())
    sums = first + np.concatenate([[0.0], np.cumsum(bound.terms.mean(0) * bound.lengths)])
    return np.append(ends, ends[-1]), np.append(sums, sums[-1] + bound.prior.mean())
