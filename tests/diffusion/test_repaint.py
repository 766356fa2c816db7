"""RePaint: the known part is exact, nothing known is plain sampling, and a Gaussian's conditional is recovered."""

import numpy as np
import pytest
import torch

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.process import Level
from dmzcli.diffusion.repaint import noised_on, repaint
from dmzcli.diffusion.samplers import available, create
from dmzcli.system.randomness import ImageNoise

CONFIG = DiffusionConfig(timesteps=100)
SHAPE = (2, 4, 4)
CPU = torch.device("cpu")


def denoiser(x, t):
    return torch.tanh(x + t[:, None, None, None] / 100)


def noises(count=3, seed=0):
    return ImageNoise(seed, range(count), SHAPE, CPU), ImageNoise(seed + 1, range(count), SHAPE, CPU)


def image(count=3):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("resample", [1, 3])
def test_the_known_part_is_exact_and_the_rest_is_drawn(name, resample):
    known, x0 = torch.zeros(4, 4, dtype=torch.bool), image()
    known[:, :2] = True
    made = repaint(create(name, CONFIG, 10), denoiser, *_order(noises(), x0, known), resample)
    assert torch.equal(made[..., :2], x0[..., :2]) and made.isfinite().all()
    assert not torch.isclose(made[..., 2:], x0[..., 2:]).all()


def _order(pair, x0, known):
    noise, fresh = pair
    return noise, x0, known, fresh


@pytest.mark.parametrize("name", available())
def test_all_known_is_the_image(name):
    x0 = image()
    made = repaint(
        create(name, CONFIG, 10), denoiser, *_order(noises(), x0, torch.ones(4, 4, dtype=torch.bool))
    )
    assert torch.equal(made, x0)


@pytest.mark.parametrize(("name", "eta"), [("ancestral", 0.0), ("ddim", 0.0), ("ddim", 0.7)])
def test_nothing_known_is_plain_sampling(name, eta):
    sampler = create(name, CONFIG, 10, eta=eta)
    made = repaint(sampler, denoiser, *_order(noises(), image(), torch.zeros(4, 4, dtype=torch.bool)))
    assert torch.equal(made, sampler.sample(denoiser, noises()[0]))


def test_a_jump_keeps_the_marginals():
    """From N(0, σ_s²) of signal 0.8 the jump makes N(0, σ_t²) of signal 0.5: the laws of the forward process."""
    s, t = Level(0.8, 0.6), Level(0.5, np.sqrt(0.75))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 100_000, generator=generator, dtype=torch.float64)
    x_t = noised_on(s.signal * 1.0 + s.noise * noise[0], s, t, noise[1])
    # Errors of mean and variance have the deviations σ/√N = 0.0027 and σ² √(2/N) = 0.0034; four of them are allowed.
    assert abs(x_t.mean() - t.signal) < 0.011 and abs(x_t.var() - t.noise**2) < 0.014


def test_more_jumps_come_nearer_to_a_gaussians_conditional():
    """Pixels (a, b) of a unit Gaussian with correlation 0.95 and a = 1 known: b ~ N(0.95, 1 − 0.95²)."""
    covariance = torch.tensor([[1.0, 0.95], [0.95, 1.0]], dtype=torch.float64)
    sampler = create(
        "ancestral", DiffusionConfig(timesteps=1000, variance="fixed-small"), 40, threshold="none"
    )
    process, eye = sampler.process, torch.eye(2, dtype=torch.float64)
    steps = {int(t): i for i, t in enumerate(process.timesteps)}

    def exact(x, t):  # ε̂ = σ (α² Σ + σ² I)^{-1} x
        level = process.level(steps[int(t[0])])
        inverse = torch.linalg.inv(level.signal**2 * covariance + level.noise**2 * eye)
        return (level.noise * x.flatten(1) @ inverse).view_as(x)

    count = 2000
    x0 = torch.ones(count, 1, 1, 2, dtype=torch.float64)
    known = torch.tensor([[True, False]])
    errors = []
    for resample in (1, 10):
        generator = torch.Generator().manual_seed(3)

        def draw(generator=generator):
            return torch.randn(count, 1, 1, 2, generator=generator, dtype=torch.float64)

        errors.append(
            float((repaint(sampler, exact, draw, x0, known, draw, resample)[..., 1].mean() - 0.95).abs())
        )
    # The mean of 2,000 draws errs by 0.022 at most, at the prior's deviation 1; three of these are allowed.
    assert errors[1] < 0.066 and errors[1] < errors[0] / 2
