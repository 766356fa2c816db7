"""How far each sampler's distribution is from the exact one, in few steps: a Markdown table.

x_0 is a mixture of narrow Gaussians in one dimension, and the denoiser is its exact E[ε | x_t], so that all error is
the solver's. The distance is Wasserstein's W₁ = ∫ |F⁻¹(u) − G⁻¹(u)| du between samples and the target, by quantiles.

    python benchmarks/solvers.py > table.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion import samplers
from dmzcli.diffusion.process import Diffusion
from dmzcli.diffusion.spacings import spacings
from dmzcli.errors import UserError

STEPS = (4, 8, 10, 20)


class Mixture(NamedTuple):
    """Σ_k w_k N(c_k, s²)."""

    weights: tuple[float, ...]
    centers: tuple[float, ...]
    width: float

    def denoiser(self, config: DiffusionConfig) -> Callable[[Tensor, Tensor], Tensor]:
        """E[ε | x_t] exactly: each component's E[x_0 | x_t, k], weighted by p(k | x_t)."""
        process = Diffusion(config)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = process.level(int(t[0]))
            variance = alpha**2 * self.width**2 + sigma**2
            parts = list(zip(self.weights, self.centers, strict=True))
            logits = torch.stack([np.log(w) - (x - alpha * c) ** 2 / (2 * variance) for w, c in parts])
            gain = alpha * self.width**2 / variance
            means = torch.stack([c + gain * (x - alpha * c) for _, c in parts])
            return (x - alpha * (logits.softmax(0) * means).sum(0)) / sigma

        return denoise

    def quantiles(self, count: int) -> np.ndarray:
        """F⁻¹ at the centers of ``count`` equal masses."""
        x = np.linspace(-2, 2, 100_001)
        parts = zip(self.weights, self.centers, strict=True)
        mass = sum(w * ndtr((x - c) / self.width) for w, c in parts)
        return np.interp((np.arange(count) + 0.5) / count, mass, x)


TARGETS = {
    "three": Mixture((0.3, 0.5, 0.2), (-0.7, 0.1, 0.6), 0.05),
    "two": Mixture((0.3, 0.7), (-0.6, 0.5), 0.1),
    "two, narrow": Mixture((0.5, 0.5), (-0.8, 0.8), 0.03),
}


def distance(
    target: Mixture, config: DiffusionConfig, name: str, steps: int, spacing: str | None, count: int
) -> float:
    """W₁ of ``count`` samples; x_T are the quantiles of N(0, 1), all other noise is drawn with one seed."""
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    generator = torch.Generator().manual_seed(0)
    first = [torch.special.ndtri(levels)[:, None, None, None]]

    def noise() -> Tensor:
        if first:
            return first.pop()
        return torch.randn(count, 1, 1, 1, generator=generator, dtype=torch.float64)

    sampler = samplers.create(name, config, steps, spacing, threshold="none")
    x = sampler.sample(target.denoiser(config), noise)
    return float(np.abs(np.sort(x.flatten().numpy()) - target.quantiles(count)).mean())


def main() -> None:
    """Prints every sampler with every spacing; the default for a network that predicts ε is marked."""
    for schedule in ("cosine", "linear"):
        config = DiffusionConfig(schedule=schedule)
        print(f"\n## {schedule}\n")
        print("| sampler | spacing |" + "".join(f" {n}, T={t} |" for n in TARGETS for t in STEPS))
        print("|---" * (2 + len(TARGETS) * len(STEPS)) + "|")
        for name in samplers.available():
            for spacing in spacings():
                mark = " (default)" * (spacing == samplers.sampler_class(name).usual_spacing(config))
                cells = []
                for target in TARGETS.values():
                    for steps in STEPS:
                        try:
                            cells.append(f" {distance(target, config, name, steps, spacing, 10_000):.4f} |")
                        except UserError:  # no whole stride
                            cells.append(" |")
                print(f"| {name} | {spacing}{mark} |{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
