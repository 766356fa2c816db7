r"""The variational bound on −log p(x), in bits per dimension, per timestep.

    −log p(x_0) ≤ KL(q(x_T | x_0) ‖ N(0, I)) + Σ_{t > 0} KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t))
                  − log p(x_0 | x_1),

each term averaged over q(x_t | x_0) and over images; the last is the mass that the decoder gives to an 8-bit image.

For a model with bits everything is given z(x), the image's most probable bits: the bound is one on −log p(x | z(x)) and
says nothing of what the bits cost. With a prior over them, −log p(z(x)) is added, and as p(x) ≥ p(z(x)) p(x | z(x)) the
sum is a bound on −log p(x).

J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", 2020, arXiv 2006.11239, eq. 5.
A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, arXiv 2102.09672, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmzcli.diffusion.process import Diffusion
from dmzcli.diffusion.samplers import Denoiser
from dmzcli.diffusion.thresholds import clip

Array = np.ndarray


@dataclass(frozen=True)
class Bound:
    """The bound of N images, in bits per dimension.

    Attributes:
        prior: KL(q(x_T | x_0) ‖ N(0, I)) of each image, (N,).
        starts, lengths: The strata of timesteps: where each begins and how many it holds, int64 (S,).
        terms: The mean term of a timestep of each stratum, of each image, (N, S).
        bits: −log₂ p(z(x)) of each image, (N,), or ``None`` where no prior over the bits was named.
        large: The mean bound of the same network with the variance ``fixed-large``; ``None`` unless it has
            ``fixed-small``.
    """

    prior: Array
    starts: Array
    lengths: Array
    terms: Array
    bits: Array | None = None
    large: float | None = None

    @property
    def per_image(self) -> Array:
        """The whole bound of each image, (N,)."""
        cost = 0.0 if self.bits is None else self.bits
        return self.prior + self.terms @ self.lengths + cost

    @property
    def total(self) -> float:
        """The mean over images."""
        return float(self.per_image.mean())

    @property
    def error(self) -> float | None:
        """The standard error of the mean over images; ``None`` for a single one."""
        return float(self.per_image.std(ddof=1) / math.sqrt(len(self.prior))) if len(self.prior) > 1 else None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "bits_per_dim": self.total,
            "standard_error": self.error,
            "bits_per_dim_fixed_large": self.large,
            "images": len(self.prior),
            "x_T_term": float(self.prior.mean()),
            "bits_term": None if self.bits is None else float(self.bits.mean()),
            "decoder_term": float(self.terms[:, 0].mean()),
            "timesteps": self.starts.tolist(),
            "timesteps_in_stratum": self.lengths.tolist(),
            "terms": self.terms.mean(0).tolist(),
        }


def strata(timesteps: int, every: int) -> tuple[Array, Array]:
    """Runs of timesteps, their starts and lengths: single ones at the image, then a quarter of t, ``every`` at most.

    The terms fall with t as a power of it: runs that grow with t hold terms of one size, and one of each says enough.

    Example:
        >>> strata(20, 4)
        (array([ 0,  1,  2,  3,  4,  5,  6,  7,  8, 10, 12, 15, 18]), array([1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 2]))
    """
    starts = [0]
    while (ahead := starts[-1] + min(every, max(1, starts[-1] // 4))) < timesteps:
        starts.append(ahead)
    return np.array(starts), np.diff([*starts, timesteps])


def prior_term(process: Diffusion, x0: Tensor) -> Tensor:
    """KL(q(x_T | x_0) ‖ N(0, I)) in bits per dimension, float64 (B,) on the CPU."""
    power = process.level(len(process) - 1).signal ** 2
    kl = 0.5 * (power * x0.cpu().double() ** 2 - power - math.log1p(-power))
    return kl.flatten(1).mean(1) / math.log(2)


@torch.no_grad()
def bound_terms(
    processes: Sequence[Diffusion],
    denoiser: Denoiser,
    x0: Tensor,
    every: int,
    generators: Sequence[np.random.Generator],
) -> list[Tensor]:
    """One draw of each stratum's term per image: of a timestep in it, and of the noise.

    Arguments:
        processes: All timesteps, as trained; several that differ in the variance of their reverse steps share the
            network's evaluations.
        denoiser: The network, with its bits bound.
        x0: Images (B, C, H, W) in [−1, 1].
        every: Timesteps per stratum.
        generators: The images' own randomness, (B,).

    Returns:
        Bits per dimension for each process, float64 (B, S) on the CPU: MPS has no float64.
    """
    first = processes[0]
    starts, lengths = strata(len(first), every)
    columns: list[list[Tensor]] = [[] for _ in processes]
    for start, length in zip(starts, lengths, strict=True):
        index = torch.tensor([start + int(g.integers(length)) for g in generators], device=x0.device)
        drawn = np.stack([g.standard_normal(x0.shape[1:], np.float32) for g in generators])
        x_t = first.add_noise(x0, index, torch.from_numpy(drawn).to(x0))
        output = denoiser(x_t, first.model_timesteps(index))
        for process, column in zip(processes, columns, strict=True):
            column.append(process.variational_term(output, x0, x_t, index, clip))
    return [torch.stack(column, 1).cpu().double() for column in columns]
