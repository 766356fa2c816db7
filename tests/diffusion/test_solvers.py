"""Solvers against what is known: their orders, exact targets, and the schedulers of diffusers."""

import importlib.util
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion import samplers
from dmzcli.diffusion.inversion import invert
from dmzcli.diffusion.process import Diffusion
from dmzcli.diffusion.schedule import alphas_bar, betas

_SPEC = importlib.util.spec_from_file_location(
    "solvers", Path(__file__).parents[2] / "benchmarks" / "solvers.py"
)
solvers = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(solvers)

CENTERS, WIDTH, WEIGHT = (-0.7, 0.5), 0.15, 0.3  # of a mixture of two Gaussians, WEIGHT in the first
MEAN = WEIGHT * CENTERS[0] + (1 - WEIGHT) * CENTERS[1]
VARIANCE = WIDTH**2 + WEIGHT * (1 - WEIGHT) * (CENTERS[1] - CENTERS[0]) ** 2
ORDERS = {"ddim": 1, "dpm++": 2, "unipc": 3}


def mixture_denoiser(config, width=WIDTH):
    r"""The exact E[ε | x_t] of a mixture: each component's E[x_0 | x_t, k], weighted by p(k | x_t)."""
    table = torch.from_numpy(alphas_bar(config))

    def denoise(x, t):
        a = table[t.long()].to(x)[:, None, None, None]
        v = a * width**2 + 1 - a
        logits = torch.stack(
            [
                np.log(w) - (x - a.sqrt() * c) ** 2 / (2 * v)
                for c, w in zip(CENTERS, (WEIGHT, 1 - WEIGHT), strict=True)
            ]
        )
        means = torch.stack([c + a.sqrt() * width**2 / v * (x - a.sqrt() * c) for c in CENTERS])
        x0 = (logits.softmax(0) * means).sum(0)
        return (x - a.sqrt() * x0) / (1 - a).sqrt()

    return denoise


def quantiles(count):
    """x_T at the centres of ``count`` equal masses of N(0, 1), float64 (count, 1, 1, 1)."""
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.special.ndtri(levels)[:, None, None, None]


def solve(name, config, steps, spacing, x, denoise):
    return samplers.create(name, config, steps, spacing, threshold="none").sample(denoise, lambda: x)


@pytest.mark.parametrize("name", ORDERS)
def test_solvers_converge_at_their_order(name):
    """Halving the step divides the error by 2^order.

    100,000 timesteps of the linear schedule are smooth in λ from 6.9 to −5, and the solvers see the λ of the timesteps
    that are kept, so that rounding to the grid costs nothing but slightly uneven steps. Components half as wide as
    their distance keep x̂_0 smooth on the scale of the steps. The reference has 640 steps of UniPC, of third order: its
    own error is (640 / 160)^−3 = 1/64 of the smallest that is compared. All solvers end with the same step to the image
    from the same timestep 0, which is a function of x there and costs no order.
    """
    config = DiffusionConfig(timesteps=100_000, schedule="linear")
    x, denoise = quantiles(10), mixture_denoiser(config, width=0.6)
    exact = solve("unipc", config, 640, "log-snr", x, denoise)
    errors = [
        (solve(name, config, steps, "log-snr", x, denoise) - exact).abs().max().item()
        for steps in (40, 80, 160)
    ]
    orders = -np.diff(np.log2(errors))
    np.testing.assert_allclose(orders, ORDERS[name], atol=0.15)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("name", samplers.available())
def test_exact_denoiser_of_a_mixture_gives_that_mixture(name, schedule):
    """Deterministic solvers map quantiles to quantiles: no sampling error, and what is left falls with T.

    The stochastic ones are sampled: 8,000 points, five standard errors of mean, variance and of the weight below 0, on
    top of the discretisation's error at 200 steps, which the deterministic ones bound.
    """
    config = DiffusionConfig(schedule=schedule)
    sampler = samplers.create(name, config, 200, "leading", threshold="none")
    generator = torch.Generator().manual_seed(0)
    count = 2000 if sampler.deterministic else 8000

    def noise():
        if sampler.deterministic:
            return quantiles(count)
        return torch.randn(count, 1, 1, 1, generator=generator, dtype=torch.float64)

    x = sampler.sample(mixture_denoiser(config), noise)
    error = 0.0 if sampler.deterministic else 5 / np.sqrt(count)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01 + error * np.sqrt(VARIANCE))
    assert x.var().item() == pytest.approx(VARIANCE, abs=0.02 * VARIANCE + error * VARIANCE * np.sqrt(2))
    assert (x < 0).double().mean().item() == pytest.approx(WEIGHT, abs=0.01 + error * 0.5)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("name", ["dpm++", "dpm++-sde", "unipc"])
@pytest.mark.parametrize("target", ["three", "two", "two, narrow"])
def test_no_solver_is_worse_than_ddim_in_few_steps(target, name, schedule):
    """With each one's own spacing, on exact targets, at the numbers of steps that they are made for.

    Deterministic solvers carry quantiles of x_T to quantiles of x_0 and have no sampling error. The stochastic one is
    sampled: E|F_n − F| is about √(2/π) √(F (1 − F) / n), so that n exact samples have a W₁ of √(2/π) ∫ √(F (1 − F)) dx
    / √n. Components lie in [−0.8, 0.8], where √(F (1 − F)) ≤ 1/2: 0.0064 at most for n = 10,000.
    """
    config, count = DiffusionConfig(schedule=schedule), 10_000
    floor = 0.0064 if name == "dpm++-sde" else 0.0
    for steps in (4, 8, 10, 20):
        ours, ddim = (
            solvers.distance(solvers.TARGETS[target], config, each, steps, None, count)
            for each in (name, "ddim")
        )
        assert ours < ddim + floor, steps


@pytest.mark.parametrize("name", ["dpm++", "dpm++-sde", "unipc"])
@pytest.mark.parametrize("target", ["three", "two", "two, narrow"])
def test_where_the_image_is_predicted_solvers_keep_up_with_ddim(target, name):
    """Trailing timesteps end a stride above the image, and the two steps of first order there weigh most: the solvers
    gain little on DDIM, and the stochastic one may lose a tenth (see benchmarks/results/solvers-exact.md)."""
    config = DiffusionConfig()
    usual = samplers.sampler_class(name).usual_spacing(DiffusionConfig(prediction="v"))
    for steps in (4, 8, 10, 20):
        ours, ddim = (
            solvers.distance(solvers.TARGETS[target], config, each, steps, usual, 10_000)
            for each in (name, "ddim")
        )
        assert ours < 1.1 * ddim + 0.0064 * (name == "dpm++-sde"), steps


@pytest.mark.parametrize("spacing", ["leading", "ddim", "uniform"])
@pytest.mark.parametrize("name", ["dpm++", "dpm++-sde", "unipc"])
def test_nothing_runs_away_in_the_step_to_the_lowest_timestep(name, spacing):
    """There λ leaps: from 1.8 to 5 where the step before was 0.7 long (cosine, T = 10). With the second order kept in
    that step, W₁ was 0.15 to 0.29, three to five times DDIM's; the first order is DDIM's own step."""
    config, target = DiffusionConfig(), solvers.TARGETS["three"]
    ours, ddim = (solvers.distance(target, config, each, 10, spacing, 2000) for each in (name, "ddim"))
    assert ours < 1.1 * ddim


# diffusers --------------------------------------------------------------------------------------------------------


def network(x, t):
    """Something smooth that is no denoiser of anything: agreement must not need a good one."""
    return torch.tanh(x * (1 + t[:, None, None, None] / 1000)) + 0.1 * x.flip(2)


def theirs(scheduler, timesteps, x, step):
    for t in timesteps:
        x = step(scheduler, network(x, torch.full((len(x),), int(t))), t, x)
    return x


@pytest.fixture
def noises():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, 4, 4, generator=generator, dtype=torch.float64) for _ in range(30)]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_is_diffusers_ddim(noises, eta, clip, prediction, schedule):
    config = DiffusionConfig(schedule=schedule, prediction=prediction)
    types = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}
    scheduler = diffusers.DDIMScheduler(
        1000,
        trained_betas=betas(schedule, 1000),
        clip_sample=clip,
        set_alpha_to_one=True,
        prediction_type=types[prediction],
    )
    scheduler.set_timesteps(10)
    fresh = iter(noises[1:])

    def step(scheduler, output, t, x):
        noise = next(fresh) if eta and t > 0 else torch.zeros_like(x)
        return scheduler.step(
            output, t, x, eta=eta, use_clipped_model_output=clip, variance_noise=noise
        ).prev_sample

    expected = theirs(scheduler, scheduler.timesteps, noises[0], step)
    ours = iter(noises)
    sampler = samplers.create("ddim", config, 10, "ddim", eta, "clip" if clip else "none")
    made = sampler.sample(network, lambda: next(ours))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("threshold", ["none", "dynamic"])
@pytest.mark.parametrize("steps", [1, 2, 10, 20])
@pytest.mark.parametrize("name", ["dpm++", "dpm++-sde", "unipc"])
def test_multistep_solvers_are_those_of_diffusers(noises, name, steps, threshold, schedule):
    """From a timestep where ᾱ > 1e-3: their tables are float32, and 1/√ᾱ multiplies what that loses.

    Ours lower the order one step earlier than theirs do; theirs are told there that they have no past.
    """
    config = DiffusionConfig(schedule=schedule)
    sampler = samplers.create(name, config, steps, "leading", threshold=threshold)
    kept = sampler.process.timesteps if steps > 1 else np.array([800])
    sampler.process = Diffusion(config, kept)
    options = {"trained_betas": betas(schedule, 1000), "solver_order": 2, "prediction_type": "epsilon"}
    options |= {"thresholding": threshold == "dynamic", "sample_max_value": 1e6, "final_sigmas_type": "zero"}
    if name == "unipc":
        scheduler = diffusers.UniPCMultistepScheduler(1000, solver_type="bh2", **options)
    else:
        algorithm = "sde-dpmsolver++" if name.endswith("sde") else "dpmsolver++"
        scheduler = diffusers.DPMSolverMultistepScheduler(1000, algorithm_type=algorithm, **options)
    scheduler.set_timesteps(steps)
    # Their own spacings differ in rounding: the same timesteps are given by what the scheduler reads of them.
    scheduler.timesteps = torch.from_numpy(kept[::-1].copy())
    table = alphas_bar(config)[kept[::-1]]
    scheduler.sigmas = torch.from_numpy(np.append(np.sqrt((1 - table) / table), 0.0))
    fresh = iter(noises[1:])

    def step(scheduler, output, t, x):
        if len(kept) > 1 and t == kept[1]:
            scheduler.lower_order_nums = 0
        extra = {"variance_noise": next(fresh)} if name == "dpm++-sde" else {}
        return scheduler.step(output, t, x, **extra).prev_sample

    expected = theirs(scheduler, scheduler.timesteps, noises[0], step)
    ours = iter(noises)
    made = sampler.sample(network, lambda: next(ours))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


# Inversion ---------------------------------------------------------------------------------------------------------


def test_inversion_comes_back_and_does_so_at_first_order():
    """Image → x_T → image: both ways are Euler's, so doubling T halves what does not come back."""
    config = DiffusionConfig(timesteps=100_000, schedule="linear")
    denoise = mixture_denoiser(config, width=0.6)
    images = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None, None, None]
    errors = []
    for steps in (100, 200, 400):
        sampler = samplers.create("ddim", config, steps, "log-snr", threshold="none")
        noise = invert(sampler.process, denoise, images)
        errors.append((sampler.sample(denoise, lambda noise=noise: noise) - images).abs().max().item())
    assert errors[-1] < 0.02
    assert np.allclose(np.divide(errors[1:], errors[:-1]), 0.5, atol=0.1)


def test_inverted_images_of_the_target_are_standard_noise():
    """Quantiles of the mixture become quantiles of N(0, 1): the ODE is monotone, and it ends at q(x_T)."""
    config = DiffusionConfig(schedule="linear")
    generator = np.random.default_rng(0)
    first = generator.random(4000) < WEIGHT
    x0 = np.where(first, *CENTERS) + WIDTH * generator.standard_normal(4000)
    sampler = samplers.create("ddim", config, 200, "uniform")
    images = torch.from_numpy(x0)[:, None, None, None]
    noise = invert(sampler.process, mixture_denoiser(config), images)
    assert noise.mean().abs() < 0.03 + 5 / np.sqrt(4000)
    assert noise.var().item() == pytest.approx(1, abs=0.03 + 5 * np.sqrt(2 / 4000))
