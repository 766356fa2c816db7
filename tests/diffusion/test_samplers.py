"""Every registered sampler: it samples the right distribution, and an image belongs to its own index."""

import math
import re

import numpy as np
import pytest
import torch

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion import samplers
from dmzcli.diffusion.process import Diffusion
from dmzcli.diffusion.spacings import spacings
from dmzcli.errors import UserError
from dmzcli.system.randomness import ImageNoise

MEAN, DEVIATION = 0.3, 0.5
KINDS = [(name, eta) for name in samplers.available() for eta in ((0.0, 1.0) if name == "ddim" else (0.0,))]


def gaussian_denoiser(config):
    r"""The exact E[ε | x_t] for x_0 ~ N(m, s²), and twice as many channels where the variance is learnt.

    x_t = √ᾱ x_0 + √(1−ᾱ) ε is Gaussian with variance v = ᾱ s² + 1 − ᾱ, so E[ε | x_t] = √(1−ᾱ) (x_t − √ᾱ m) / v.
    """
    from dmzcli.diffusion.schedule import betas

    alphas_bar = torch.from_numpy(np.cumprod(1 - betas(config.schedule, config.timesteps)))

    def denoise(x, t):
        a = alphas_bar[t.long()].to(x)[:, None, None, None]
        epsilon = (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * DEVIATION**2 + 1 - a)
        return torch.cat([epsilon, torch.zeros_like(x)], 1) if config.variance == "learned-range" else epsilon

    return denoise


def reverse_moments(name, config, steps, *arguments, **options):
    """Mean and variance of x_0, carried through the whole chain exactly.

    With the exact denoiser of a Gaussian x_0 is affine in all noises drawn: b + Σ c_k ξ_k. Image 0 of the batch gets
    none of them, image k the k-th alone.
    """
    sampler = samplers.create(name, config, steps, *arguments, **options, threshold="none")
    draws = iter(torch.eye(steps + 2, dtype=torch.float64)[1:])
    x = sampler.sample(gaussian_denoiser(config), lambda: next(draws)[:, None, None, None]).flatten()
    return x[0].item(), ((x[1:] - x[0]) ** 2).sum().item()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("variance", ["fixed-small", "fixed-large", "learned-range"])
@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_exact_denoiser_of_a_gaussian_gives_that_gaussian(name, eta, variance, schedule):
    """What is left is the discretisation's bias, and it falls as 1/T.

    A reverse step of the log-SNR by h misses the exact transition's log-variance by O(h²), so T steps of h ~ 1/T by
    O(1/T); over a log-SNR of some ±10 the constant is of the order of ten. x_T is drawn from N(0, 1) and not from
    q(x_T): the linear schedule's √ᾱ_T = 0.006 leaves 0.6 % of the mean.
    """
    config, errors = DiffusionConfig(schedule=schedule, variance=variance), []
    for steps in (100, 200):
        mean, var = reverse_moments(name, config, steps, eta=eta)
        assert mean == pytest.approx(MEAN, abs=0.01 * MEAN)
        errors.append(math.log(var / DEVIATION**2))
        assert abs(errors[-1]) < 16 / steps
    # Doubling T halves the error of a solver of first order; the others fall at least as fast, down to what starting
    # from N(0, 1) a stride below the noise costs: α² |s² − 1|, 2e-4 at T = 100 of the cosine schedule.
    assert abs(errors[1]) < max(0.6 * abs(errors[0]), 5e-4)
    if name in ("ancestral", "ddim"):
        assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_samples_have_the_moments_of_the_chain(name, eta, device):
    """The loop itself: 20,000 pixels against the exactly carried moments, five standard errors."""
    config = DiffusionConfig(timesteps=100)
    sampler = samplers.create(name, config, 25, eta=eta, threshold="none")
    mean, variance = reverse_moments(name, config, 25, eta=eta)
    noise = ImageNoise(0, range(200), (1, 10, 10), device)
    x = sampler.sample(gaussian_denoiser(config), noise).double().cpu()
    assert x.shape == (200, 1, 10, 10)
    assert x.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / 20_000))
    assert x.var().item() == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / 20_000))


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_an_image_depends_on_its_own_noise_alone(name, eta, steps, device):
    """Batch size, order and company change nothing: the arithmetic is elementwise, so not even rounding."""
    config = DiffusionConfig(timesteps=20)
    sampler, denoise = samplers.create(name, config, steps, eta=eta), gaussian_denoiser(config)

    def images(indices):
        return sampler.sample(denoise, ImageNoise(7, indices, (1, 4, 4), device))

    together = images(range(6))
    assert torch.equal(images([4]), together[4:5])
    assert torch.equal(images([5, 2, 0]), together[[5, 2, 0]])
    other = sampler.sample(denoise, ImageNoise(8, range(6), (1, 4, 4), device))
    assert not torch.equal(other, together)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_steps_are_the_evaluations_of_the_network(name, eta, steps):
    config, calls = DiffusionConfig(timesteps=20), []
    denoise = gaussian_denoiser(config)

    def counted(x, t):
        assert (t == t[0]).all() and len(t) == len(x)
        calls.append(int(t[0]))
        return denoise(x, t)

    sampler = samplers.create(name, config, steps, eta=eta)
    sampler.sample(counted, ImageNoise(0, range(2), (1, 4, 4), torch.device("cpu")))
    assert calls == sampler.process.timesteps.tolist()[::-1]  # on the training scale, from the noise down


@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_clipping_bounds_a_single_step(name, eta):
    """With one step x̂_0 is the image; clipped, it cannot leave [−1, 1]."""
    config = DiffusionConfig(timesteps=20)
    sampler = samplers.create(name, config, 1, eta=eta)
    noise = ImageNoise(0, range(2), (1, 4, 4), torch.device("cpu"))
    wild = sampler.sample(lambda x, t: 50 * torch.ones_like(x), noise)
    assert wild.abs().max() <= 1 + 1e-6  # √ᾱ_0 of the "step before the first" is exactly 1 up to rounding


@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_deterministic_samplers_draw_only_the_start(name, eta):
    config, draws = DiffusionConfig(timesteps=20), []

    def noise():
        draws.append(1)
        return torch.zeros(1, 1, 2, 2)

    sampler = samplers.create(name, config, 10, eta=eta)
    sampler.sample(gaussian_denoiser(config), noise)
    assert len(draws) == (1 if sampler.deterministic else 10)  # x_T, and every step but the last
    assert sampler.deterministic == (name in ("ddim", "dpm++", "unipc") and eta == 0)


@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_who_watches_sees_every_estimate_and_changes_nothing(name, eta):
    config = DiffusionConfig()
    sampler = samplers.create(name, config, 5, eta=eta)

    def sample(watch=None):
        noise = ImageNoise(0, range(2), (1, 4, 4), torch.device("cpu"))
        return sampler.sample(gaussian_denoiser(config), noise, watch=watch)

    seen = []
    assert torch.equal(sample(seen.append), sample())
    assert len(seen) == 5 and all(x0.shape == (2, 1, 4, 4) and x0.abs().max() <= 1 for x0 in seen)


@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_a_call_leaves_nothing_behind(name, eta):
    """Calls that meet in the middle of each other do not mix: what multistep samplers remember is the call's."""
    config = DiffusionConfig(timesteps=20)
    sampler, denoise = samplers.create(name, config, 5, eta=eta), gaussian_denoiser(config)

    def image(inner=False):
        def denoiser(x, t):
            if inner:
                sampler.sample(denoise, ImageNoise(1, range(1), (1, 4, 4), torch.device("cpu")))
            return denoise(x, t)

        return sampler.sample(denoiser, ImageNoise(0, range(2), (1, 4, 4), torch.device("cpu")))

    alone = image()
    assert torch.equal(image(inner=True), alone) and torch.equal(image(), alone)


@pytest.mark.parametrize(("name", "eta"), KINDS)
@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_samplers_respect_what_the_network_predicts(name, eta, prediction):
    """The same denoiser under another name: what differs is rounding, through 1/√ᾱ_T ~ 10² and six steps."""
    config = DiffusionConfig(timesteps=20)
    other = DiffusionConfig(timesteps=20, prediction=prediction)
    denoise, process = gaussian_denoiser(config), Diffusion(other)

    def renamed(x, t):
        predicted = Diffusion(config).predict(denoise(x, t), x, t, None)
        return process.target(predicted.x0, predicted.epsilon, t)

    images = []
    for kind, denoiser in ((config, denoise), (other, renamed)):
        noise = ImageNoise(0, range(3), (1, 4, 4), torch.device("cpu"))
        images.append(
            samplers.create(name, kind, 5, "uniform", eta).sample(denoiser, lambda n=noise: n().double())
        )
    torch.testing.assert_close(images[1], images[0], rtol=1e-8, atol=1e-8)


def test_ddim_with_full_noise_is_the_ancestral_chain():
    """η = 1 gives the DDPM posterior's mean and variance (Song et al. 2021, after eq. 16)."""
    config = DiffusionConfig(timesteps=50, variance="fixed-small")
    moments = [
        reverse_moments(name, config, 10, "uniform", eta) for name, eta in (("ddim", 1.0), ("ancestral", 0.0))
    ]
    assert moments[0] == pytest.approx(moments[1], rel=1e-9)


# The registry ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", samplers.available())
def test_contract(name):
    sampler = samplers.create(name, DiffusionConfig(timesteps=20), 5)
    assert (sampler.name, len(sampler.process)) == (name, 5)
    assert isinstance(sampler.summary, str) and "\n" not in sampler.summary
    for steps in (0, 21):
        with pytest.raises(UserError, match=rf"^--steps {steps} does not fit a model of 20 timesteps$"):
            samplers.create(name, DiffusionConfig(timesteps=20), steps)
    for spacing in spacings():
        assert len(samplers.create(name, DiffusionConfig(timesteps=20), 4, spacing).process) == 4
    with pytest.raises(UserError, match=r"^no whole stride takes 11 of 20 timesteps$"):
        samplers.create(name, DiffusionConfig(timesteps=20), 11, "ddim")
    if not sampler.takes_eta:
        with pytest.raises(UserError, match=rf"^--eta 0.5 means nothing to the sampler '{re.escape(name)}'$"):
            samplers.create(name, DiffusionConfig(timesteps=20), 5, eta=0.5)
    for eta in (-0.1, math.nan, math.inf):
        with pytest.raises(UserError, match=rf"^--eta {eta} "):
            samplers.create(name, DiffusionConfig(timesteps=20), 5, eta=eta)


def test_unknown_names_are_told_the_nearest():
    with pytest.raises(UserError, match=r"^unknown sampler 'ancestrl'$") as error:
        samplers.create("ancestrl", DiffusionConfig(), 10)
    assert error.value.hint == "did you mean 'ancestral'?"
    with pytest.raises(UserError, match=r"^unknown spacing 'uniforn'$") as error:
        samplers.create("ddim", DiffusionConfig(), 10, "uniforn")
    assert error.value.hint == "did you mean 'uniform'?"


def new_sampler(**attributes):
    return type("New", (samplers.ddim.DDIM,), attributes)


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(samplers.SAMPLERS, "entries", dict(samplers.SAMPLERS.entries))


def test_a_new_sampler_is_one_entry(registry):
    made = samplers.register(new_sampler(name="new", summary="a test"))
    assert "new" in samplers.available()
    assert isinstance(samplers.create("new", DiffusionConfig(), 3), made)


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"name": "ddim"}, "a sampler named 'ddim' is registered already"),
        ({"name": None}, "New has no class attribute 'name'"),
        ({"name": "new", "summary": 3}, "New has no class attribute 'summary'"),
    ],
)
def test_bad_entries_are_refused_at_registration(registry, attributes, sentence):
    before = samplers.available()
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        samplers.register(new_sampler(**attributes))
    assert samplers.available() == before


def test_a_sampler_without_a_step_is_refused_at_registration(registry):
    lacking = type("Lacking", (samplers.Sampler,), {"name": "lacking", "summary": "no step"})
    with pytest.raises(ValueError, match="Lacking"):
        samplers.register(lacking)
    with pytest.raises(ValueError, match="int"):
        samplers.register(int)


def test_the_usual_spacing_follows_what_the_network_predicts():
    """A guess of x_0 at the last timestep is the mean image from v or x_0, and noise from ε."""
    for prediction, last in (("epsilon", 750), ("v", 999), ("x0", 999)):
        config = DiffusionConfig(prediction=prediction)
        for name in ("ddim", "dpm++", "dpm++-sde", "unipc"):
            assert samplers.create(name, config, 4).process.timesteps[-1] == last, (name, prediction)
        assert samplers.create("ancestral", config, 4).process.timesteps[-1] == 999
        assert samplers.create("ddim", config, 4, "uniform").process.timesteps[-1] == 999


@pytest.mark.parametrize("spacing", spacings())
@pytest.mark.parametrize(("name", "eta"), KINDS)
def test_noise_alone_is_a_start_like_any_other(name, eta, spacing):
    """With a zero terminal SNR, v is −x_0's expectation at the start; the chain ends in the Gaussian all the same."""
    config = DiffusionConfig(prediction="v", zero_terminal_snr=True, schedule="linear")
    process = Diffusion(config)
    signal, noise = torch.from_numpy(process.signal), torch.from_numpy(process.noise)

    def denoise(x, t):
        a, s = (table[t.long()].to(x)[:, None, None, None] for table in (signal, noise))
        gain = a * DEVIATION**2 / (a**2 * DEVIATION**2 + s**2)
        x0 = MEAN + gain * (x - a * MEAN)
        return a * (x - a * x0) / s - s * x0

    sampler = samplers.create(name, config, 100, spacing, eta, threshold="none")
    draws = iter(torch.eye(102, dtype=torch.float64)[1:])
    x = sampler.sample(denoise, lambda: next(draws)[:, None, None, None]).flatten()
    assert x[0].item() == pytest.approx(MEAN, abs=0.01)
    assert ((x[1:] - x[0]) ** 2).sum().item() == pytest.approx(DEVIATION**2, rel=0.15)
