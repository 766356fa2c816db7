"""Distances between images and what they became, image by image: MSE, PSNR, SSIM, LPIPS.

References:
    Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004 (SSIM).
    R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018 (LPIPS).
"""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException

import numpy as np
import torch

from dmzcli.data.crops import with_channels
from dmzcli.evaluation.scores import Score

Array = np.ndarray
Measure = Callable[[Array, Array], Array]
"""Two uint8 (N, H, W, C) → float (N,)."""
LPIPS = "lpips-vgg16"
"""The similarity of torch-fidelity's registry that is meant by LPIPS."""
SMALLEST = {"ssim": 11, "lpips": 16}
"""The smallest side that a measure is defined for: SSIM's window, and four halvings in LPIPS's network."""
SHOWN = {"mse": "MSE", "psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS", "spread": "spread"}
"""How a person reads the names; pixels are in [0, 1]."""


def measures(
    side: int, perceptual: str | None = LPIPS, device: torch.device | None = None, batch_size: int = 64
) -> tuple[dict[str, Measure], dict[str, str]]:
    """The measures that there are for images of a size; networks are loaded once.

    Arguments:
        side: The shorter side of an image.
        perceptual: A similarity of torch-fidelity's registry; ``None`` leaves it out.
        device: Where that similarity is computed.
        batch_size: Images at a time there.

    Returns:
        The measures by name, and what could not be had with the reason.
    """
    found: dict[str, Measure] = {"mse": mse, "psnr": psnr, "ssim": ssim}
    absent: dict[str, str] = {}
    if perceptual is not None and side >= SMALLEST["lpips"]:
        try:
            found["lpips"] = lpips(perceptual, device, batch_size)
        except (OSError, RuntimeError, HTTPException) as failure:  # of a download, or of what it left
            absent["lpips"] = f"the weights of {perceptual} cannot be downloaded: {failure}"
    for name, smallest in SMALLEST.items():
        if side < smallest and (name != "lpips" or perceptual is not None):
            found.pop(name, None)
            absent[name] = f"not defined below {smallest} pixels, and the images have {side}"
    return found, absent


def distances(
    originals: Array,
    decoded: Array,
    perceptual: str | None = None,
    device: torch.device | None = None,
    batch_size: int = 64,
) -> tuple[list[Score], dict[str, str]]:
    """All measures between two sets, each a mean over images with its standard error.

    Arguments:
        originals, decoded: uint8 (N, H, W, C).
        perceptual, device, batch_size: As for :func:`measures`.

    Returns:
        The scores, and what could not be measured with the reason.
    """
    found, absent = measures(min(originals.shape[1:3]), perceptual, device, batch_size)
    return [mean(name, measure(originals, decoded)) for name, measure in found.items()], absent


def mean(name: str, values: Array) -> Score:
    """The mean over images with its standard error; of a single image, 0."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Score(name, float(values.mean()), error)


def mse(originals: Array, decoded: Array) -> Array:
    """The mean squared error, of pixels in [0, 1]."""
    error = ((originals.astype(np.float64) - decoded) / 255).reshape(len(originals), -1)
    squares: Array = np.square(error).mean(1)
    return squares


def psnr(originals: Array, decoded: Array) -> Array:
    """−10 log₁₀ MSE; an image that is reproduced exactly counts with an error of half a gray level, not infinity."""
    decibels: Array = -10 * np.log10(np.maximum(mse(originals, decoded), (0.5 / 255) ** 2))
    return decibels


def ssim(originals: Array, decoded: Array) -> Array:
    """Structural similarity with the paper's Gaussian window."""
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


def lpips(name: str = LPIPS, device: torch.device | None = None, batch_size: int = 64) -> Measure:
    """A similarity of torch-fidelity's registry, whose weights are downloaded where they are not cached."""
    from torch_fidelity.utils import create_sample_similarity

    network = create_sample_similarity(
        name, cuda=False, sample_similarity_resize=None, sample_similarity_dtype="uint8", verbose=False
    ).to(device)

    def tensor(images: Array) -> torch.Tensor:
        batch = np.ascontiguousarray(with_channels(images, 3))
        return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous().to(device)

    def measure(originals: Array, decoded: Array) -> Array:
        values = []
        with torch.inference_mode():
            for start in range(0, len(originals), batch_size):
                part = slice(start, start + batch_size)
                found = network(tensor(originals[part]), tensor(decoded[part]))
                values.append(found.reshape(-1).float().cpu().numpy())
        return np.concatenate(values)

    return measure
