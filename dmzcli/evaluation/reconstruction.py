"""How much of an image its bits keep: errors between images and what their own bits decode to.

References:
    Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004 (SSIM).
    R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018 (LPIPS).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmzcli.codes.encode import bits_of
from dmzcli.data import Dataset
from dmzcli.data.crops import with_channels
from dmzcli.data.dataset import spread
from dmzcli.diffusion.samplers import Sampler
from dmzcli.errors import UserError
from dmzcli.evaluation.card import versions
from dmzcli.evaluation.scores import Score
from dmzcli.generation.decode import decode, usual_batch
from dmzcli.generation.recipe import Recipe
from dmzcli.model.autoencoder import Autoencoder
from dmzcli.runs import Run
from dmzcli.system.files import write_json
from dmzcli.system.locks import WHILE, hold
from dmzcli.system.png import labelled_rows, write_png
from dmzcli.system.progress import Silence, Talk

Array = np.ndarray
SMALLEST = {"ssim": 11, "lpips": 16}
"""The smallest side that a measure is defined for: SSIM's window, and four halvings in LPIPS's network."""


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """Images, what their bits decode to, and the distances between them.

    Attributes:
        originals, decoded: uint8 (N, H, W, C).
        scores: Means over images, with their standard errors.
        absent: Measures that could not be taken, and why.
    """

    originals: Array
    decoded: Array
    scores: tuple[Score, ...]
    absent: dict[str, str]


def reconstruct(
    model: Autoencoder,
    images: Array,
    sampler: Sampler,
    seed: int = 0,
    batch_size: int | None = None,
    perceptual: str | None = "lpips-vgg16",
    precision: str = "no",
    talk: Talk | None = None,
) -> Reconstructions:
    """Encodes images to their most probable bits, decodes these, and compares.

    Arguments:
        model: An autoencoder with bits, in evaluation mode.
        images: uint8 (N, H, W, C).
        sampler: Built for the model's diffusion.
        seed: Seed of the decoding noise: the bits do not fix an image alone.
        batch_size: Images at a time; ``None`` for what suits the device.
        perceptual: A similarity of torch-fidelity's registry; ``None`` leaves it out.
        precision: ``no`` for float32, or ``bf16`` for the network's evaluations.
        talk: Receives progress.

    Raises:
        UserError: The model has no bits, or there are no images.
    """
    talk = talk or Silence()
    if not len(images):
        raise UserError("there are no images to reconstruct", "choose another --split or --count")
    bits = bits_of(model, images)
    batch_size = batch_size or usual_batch(model)
    with talk.task("reconstructing", len(images)) as advance:
        decoded = decode(
            model,
            bits,
            sampler,
            range(len(images)),
            seed,
            batch_size,
            lambda count: advance(count, ""),
            precision,
        )
    scores, absent = distances(images, decoded, perceptual, model.device, batch_size)
    return Reconstructions(images, decoded, tuple(scores), absent)


def distances(
    originals: Array,
    decoded: Array,
    perceptual: str | None = None,
    device: torch.device | None = None,
    batch_size: int = 64,
) -> tuple[list[Score], dict[str, str]]:
    """MSE (pixels in [0, 1]), PSNR (dB), SSIM and LPIPS, each a mean over images with its standard error.

    An image that is reproduced exactly has no finite PSNR; it counts with that of an error of half a gray level.

    Arguments:
        originals, decoded: uint8 (N, H, W, C).
        perceptual: Similarity of torch-fidelity's registry; ``None`` leaves it out.
        device: Where that similarity is computed.
        batch_size: Images at a time there.

    Returns:
        The scores, and what could not be measured with the reason.
    """
    error = ((originals.astype(np.float64) - decoded) / 255).reshape(len(originals), -1)
    mse = np.square(error).mean(1)
    values = {"mse": mse, "psnr": -10 * np.log10(np.maximum(mse, (0.5 / 255) ** 2))}
    absent: dict[str, str] = {}
    side = min(originals.shape[1:3])
    measures: dict[str, Callable[[], Array]] = {"ssim": lambda: _ssim(originals, decoded)}
    if perceptual is not None:
        measures["lpips"] = lambda: _perceptual(originals, decoded, perceptual, device, batch_size)
    for name, measure in measures.items():
        if side < SMALLEST[name]:
            absent[name] = f"not defined below {SMALLEST[name]} pixels, and the images have {side}"
            continue
        try:
            values[name] = measure()
        except (OSError, RuntimeError, HTTPException) as failure:  # of a download, or of what it left
            if name != "lpips":
                raise
            absent[name] = f"the weights of {perceptual} cannot be downloaded: {failure}"
    return [_mean(name, value) for name, value in values.items()], absent


def _mean(name: str, values: Array) -> Score:
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Score(name, float(values.mean()), error)


def _ssim(originals: Array, decoded: Array) -> Array:
    from skimage.metrics import structural_similarity

    return np.array(
        [
            structural_similarity(
                a,
                b,
                channel_axis=-1,
                data_range=255,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for a, b in zip(originals, decoded, strict=True)
        ]
    )


def _perceptual(
    originals: Array, decoded: Array, name: str, device: torch.device | None, batch_size: int
) -> Array:
    from torch_fidelity.utils import create_sample_similarity

    measure = create_sample_similarity(
        name, cuda=False, sample_similarity_resize=None, sample_similarity_dtype="uint8", verbose=False
    ).to(device)

    def tensor(images: Array) -> torch.Tensor:
        batch = np.ascontiguousarray(with_channels(images, 3))
        return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().to(device)

    values = []
    with torch.inference_mode():
        for start in range(0, len(originals), batch_size):
            part = slice(start, start + batch_size)
            values.append(
                measure(tensor(originals[part]), tensor(decoded[part])).reshape(-1).float().cpu().numpy()
            )
    return np.concatenate(values)


@dataclass(frozen=True)
class ReconstructionCard:
    """The scores of a run's reconstructions, and what they depend on.

    Attributes:
        scores: Means over images.
        absent: Measures that could not be taken, and why.
        run, weights: Directory, and SHA-256 of the weights.
        dataset, split, n: Identity, split, and how many of its images, evenly spread.
        lossy: Whether these were decoded from JPEG files.
        sampling: Sampler, steps, spacing, eta, threshold.
        seed: Seed of the decoding noise.
        card, grid: The files.
        versions, created: Versions of the libraries; ISO 8601 time.
    """

    scores: tuple[Score, ...]
    absent: dict[str, str]
    run: str
    weights: str
    dataset: str
    split: str
    n: int
    lossy: bool
    sampling: dict[str, Any]
    seed: int
    card: str
    grid: str
    versions: dict[str, str]
    created: str

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        rows = [{**asdict(score), "interval_95": list(score.interval)} for score in self.scores]
        return {"format": "dmz-reconstructions", "version": 1, **vars(self), "scores": rows}

    def title(self) -> str:
        """One line for a person."""
        how = f"{self.sampling['sampler']}, {self.sampling['steps']} steps"
        return f"{self.run}: {self.n:,} images of {self.dataset} {self.split} from their bits, {how}"

    def table(self) -> list[dict[str, Any]]:
        """As rows for a person."""
        rows = [
            {
                "metric": _SHOWN[s.metric],
                "mean": f"{s.value:.4g}",
                "95% interval": "{:.4g} … {:.4g}".format(*s.interval),
            }
            for s in self.scores
        ]
        return rows + [
            {"metric": _SHOWN[n], "mean": "–", "95% interval": why} for n, why in self.absent.items()
        ]


_SHOWN = {"mse": "MSE (pixels in [0, 1])", "psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS (VGG-16)"}


def evaluate_reconstructions(
    run: Run,
    dataset: Dataset,
    split: str,
    count: int,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    batch_size: int | None = None,
    out: Path | None = None,
    talk: Talk | None = None,
) -> ReconstructionCard:
    """Reconstructs images of a split and writes a card and a grid, originals above what their bits decode to.

    Arguments:
        run: The run whose model reconstructs.
        dataset: The images, in the size that the model takes.
        split: The images' split.
        count: Number of images at most, evenly spread.
        recipe: The recipe that decodes the bits.
        seed: Seed of the decoding noise.
        device: Where to compute.
        batch_size: Images at a time; ``None`` for what suits the device.
        out: The card's file; by default in the run's ``evaluation/``.
        talk: Receives progress.

    Raises:
        UserError: The model has no bits, the images do not fit it, or the split is empty.
    """
    model = run.load_model(device)
    model.check_images(dataset.images, "take the dataset that the run was trained on")
    recipe = recipe.of(run).resolved(model.config.diffusion)
    sampler = recipe.create(model.config.diffusion)
    rows = spread(dataset.rows(split), count)
    pairs = reconstruct(
        model, dataset.images[rows], sampler, seed, batch_size, precision=recipe.precision, talk=talk
    )
    key = json.dumps([recipe.facts(), len(rows), seed, dataset.identity], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:6]
    name = f"reconstructions-{recipe.sampler}-{recipe.steps}-{dataset.name}-{split}-{digest}"
    file = out or run.path / "evaluation" / f"{name}.json"
    picture = file.with_suffix(".png")
    shown = spread(np.arange(len(rows)), 10)
    sides = [("images", pairs.originals[shown]), ("reconstructions", pairs.decoded[shown])]
    sheet = labelled_rows(sides, len(shown))
    card = ReconstructionCard(
        scores=pairs.scores,
        absent=pairs.absent,
        run=str(run.path),
        weights=run.weights_hash,
        dataset=dataset.identity,
        split=split,
        n=len(rows),
        lossy=dataset.lossy,
        sampling=recipe.facts(),
        seed=seed,
        card=str(file),
        grid=str(picture),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    with hold(file, patience=WHILE):
        write_png(picture, sheet)
        write_json(file, card.facts())
    return card
