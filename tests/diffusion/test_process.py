"""The forward process and its losses: published numbers, and the identities that define them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.process import Diffusion
from dmzcli.diffusion.samplers import create
from dmzcli.diffusion.schedule import betas
from dmzcli.diffusion.spacings import spaced_timesteps
from dmzcli.diffusion.thresholds import clip, dynamic
from dmzcli.diffusion.weightings import weights
from dmzcli.model.unet import UNet, UNetConfig

IDDPM = Path(__file__).parents[1] / "iddpm"
SPECS = {"ddim10": (10, "ddim"), "10": (10, "uniform"), "ddim20": (20, "ddim"), "20": (20, "uniform")}
LEARNED = DiffusionConfig(variance="learned-range")


@pytest.fixture(scope="module")
def vectors():
    with np.load(IDDPM / "vectors.npz") as stream:
        return {name: stream[name] for name in stream.files}


@pytest.fixture(scope="module")
def unet():
    network = UNet(UNetConfig(3, 6, 32, (1, 2), 1, (2,)))
    network.load_state_dict(load_file(IDDPM / "unet.safetensors"))
    return network.eval().requires_grad_(False)


def process(spec):
    return Diffusion(LEARNED, spaced_timesteps(LEARNED, *SPECS[spec]))


def close(made, expected):
    """Agreement of float32 results that went through a network of some 30 layers."""
    expected = torch.from_numpy(np.asarray(expected))
    scale = float(expected.abs().max())
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5 * scale)


def test_every_vector_is_used(vectors):
    tested = {
        "x",
        "t",
        "y",
        "betas",
        *(f"loss/{name}" for name in ("x0", "noise", "index", "vb", "mse", "loss")),
    }
    names = ["timesteps", "betas", "posterior_variance", "posterior_mean_coef1", "posterior_mean_coef2"]
    names += ["index", "p_mean", "p_variance", "p_log_variance", "p_pred_xstart"]
    tested |= {f"{spec}/{name}" for spec in SPECS for name in names}
    tested |= {f"{spec}/ddim_x0" for spec in SPECS if spec.startswith("ddim")}
    assert tested == set(vectors)


def test_cosine_betas_are_the_published(vectors):
    np.testing.assert_allclose(
        betas("cosine", 1000), vectors["betas"], rtol=1e-10
    )  # the same float64 formula


@pytest.mark.parametrize("spec", SPECS)
def test_respaced_process_is_the_published(vectors, spec):
    made = process(spec)
    np.testing.assert_array_equal(made.timesteps, vectors[f"{spec}/timesteps"])
    # β = 1 − ᾱ_t / ᾱ_s loses digits where ᾱ_t ≈ ᾱ_s (β ~ 1e-4 there): 1e-16 / 1e-4.
    for name in ("betas", "posterior_variance", "posterior_mean_coef1", "posterior_mean_coef2"):
        np.testing.assert_allclose(getattr(made, name), vectors[f"{spec}/{name}"], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("spec", SPECS)
def test_reverse_steps_are_the_published(vectors, unet, spec):
    made = process(spec)
    x, index = torch.from_numpy(vectors["x"]), torch.from_numpy(vectors[f"{spec}/index"])
    predicted = made.predict(unet(x, made.model_timesteps(index)), x, index)
    close(predicted.mean, vectors[f"{spec}/p_mean"])
    close(predicted.log_variance, vectors[f"{spec}/p_log_variance"])
    close(predicted.log_variance.exp(), vectors[f"{spec}/p_variance"])
    close(predicted.x0, vectors[f"{spec}/p_pred_xstart"])


@pytest.mark.parametrize("spec", ["ddim10", "ddim20"])
def test_ddim_is_the_published(vectors, unet, spec):
    sampler = create("ddim", LEARNED, *SPECS[spec])
    x = torch.from_numpy(vectors["x"])
    close(sampler.sample(unet, lambda: x), vectors[f"{spec}/ddim_x0"])


def test_hybrid_loss_is_the_published(vectors, unet):
    made = process("ddim10")
    x0, noise, index = (torch.from_numpy(vectors[f"loss/{name}"]) for name in ("x0", "noise", "index"))
    x_t = made.add_noise(x0, index, noise)
    terms = made.losses(unet(x_t, made.model_timesteps(index)), x0, x_t, index, noise)
    for name in ("mse", "vb", "loss"):
        close(terms[name], vectors[f"loss/{name}"])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("timesteps", [2, 10, 50, 1000, 4000])
def test_betas_are_variances_and_destroy_the_image(schedule, timesteps):
    made = betas(schedule, timesteps)
    assert made.shape == (timesteps,) and ((made > 0) & (made < 1)).all()
    # Little of the image is left at the end: SNR ᾱ/(1−ᾱ) below 1 %, except that two linear steps
    # are clipped at 0.999 only once.
    assert np.prod(1 - made) < 0.01


def test_linear_schedule_is_that_of_ddpm():
    made = betas("linear", 1000)
    assert (made[0], made[-1]) == (pytest.approx(1e-4), pytest.approx(0.02))
    assert np.allclose(np.diff(made), (0.02 - 1e-4) / 999)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_respacing_keeps_the_marginals(schedule):
    """q(x_t | x_0) at a kept timestep is the same whether all steps are taken or only the kept ones."""
    config = DiffusionConfig(schedule=schedule)
    full = np.cumprod(1 - betas(schedule, 1000))
    for steps in (1, 2, 10, 100):
        made = Diffusion(config, spaced_timesteps(config, steps))
        # 1 − (1 − ᾱ) rounds at 1e-16, which is much of an ᾱ of 1e-9.
        np.testing.assert_allclose(np.cumprod(1 - made.betas), full[made.timesteps], rtol=1e-9, atol=1e-15)


def test_keeping_everything_is_no_respacing():
    whole, kept = (
        Diffusion(DiffusionConfig()),
        Diffusion(DiffusionConfig(), spaced_timesteps(DiffusionConfig(), 1000)),
    )
    np.testing.assert_array_equal(whole.betas, kept.betas)
    np.testing.assert_allclose(whole.betas, betas("cosine", 1000), rtol=1e-8)


def test_posterior_is_bayes_rule():
    """q(x_{t−1} | x_t, x_0) from the product of two Gaussians, precisions added."""
    made = Diffusion(DiffusionConfig(timesteps=20))
    for t in range(1, 20):
        alpha, before = 1 - made.betas[t], made.alphas_bar[t - 1]
        precision = alpha / made.betas[t] + 1 / (1 - before)
        assert made.posterior_variance[t] == pytest.approx(1 / precision, rel=1e-9)
        assert made.posterior_mean_coef1[t] == pytest.approx(
            math.sqrt(before) / (1 - before) / precision, rel=1e-9
        )
        assert made.posterior_mean_coef2[t] == pytest.approx(
            math.sqrt(alpha) / made.betas[t] / precision, rel=1e-9
        )


def test_noise_has_the_marginal_of_the_forward_process():
    made = Diffusion(DiffusionConfig(timesteps=20))
    torch.manual_seed(0)
    x0 = torch.full((1, 1, 1, 1), 0.7).expand(100_000, 1, 1, 1)
    for t in (0, 9, 19):
        x_t = made.add_noise(x0, torch.full((len(x0),), t), torch.randn(x0.shape)).double()
        mean, variance = 0.7 * math.sqrt(made.alphas_bar[t]), 1 - made.alphas_bar[t]
        # Five standard errors: σ/√N of the mean, σ²√(2/N) of the variance.
        assert x_t.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / 1e5))
        assert x_t.var().item() == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / 1e5))


@pytest.mark.parametrize("variance", ["learned-range", "fixed-small", "fixed-large"])
def test_the_true_noise_predicts_the_image_and_the_posterior(variance):
    made = Diffusion(DiffusionConfig(timesteps=20, variance=variance))
    torch.manual_seed(0)
    x0, noise = torch.rand(20, 1, 4, 4).double() * 2 - 1, torch.randn(20, 1, 4, 4).double()
    index = torch.arange(20)
    x_t = made.add_noise(x0, index, noise)
    low = -torch.ones_like(noise)  # of a learnt range: the posterior's variance
    output = torch.cat([noise, low], 1) if variance == "learned-range" else noise
    predicted = made.predict(output, x_t, index, threshold=None)
    torch.testing.assert_close(predicted.x0, x0, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(predicted.mean, made.posterior_mean(x0, x_t, index), rtol=1e-6, atol=1e-6)
    logs = predicted.log_variance[:, 0, 0, 0].numpy()
    expected = np.log(made.betas) if variance == "fixed-large" else made.posterior_log_variance
    np.testing.assert_allclose(logs[1:], expected[1:], rtol=1e-9)
    assert logs[0] == pytest.approx(np.log(made.posterior_variance[1]))  # 0 at the first step: clipped


def test_learnt_range_ends_at_beta():
    made = Diffusion(DiffusionConfig(timesteps=20, variance="learned-range"))
    x, index = torch.zeros(20, 1, 2, 2), torch.arange(20)
    high = made.predict(torch.ones(20, 2, 2, 2), x, index).log_variance[:, 0, 0, 0].numpy()
    np.testing.assert_allclose(high, np.log(made.betas), rtol=1e-5)  # float32


def test_clipping_keeps_image_and_noise_consistent():
    made = Diffusion(DiffusionConfig(timesteps=20))
    torch.manual_seed(0)
    x_t, index = 3 * torch.randn(20, 1, 4, 4).double(), torch.arange(20)
    predicted = made.predict(torch.randn(20, 1, 4, 4).double(), x_t, index)
    assert predicted.x0.abs().max() <= 1
    torch.testing.assert_close(
        made.add_noise(predicted.x0, index, predicted.epsilon), x_t, rtol=1e-9, atol=1e-9
    )


def exact_output(made, x0, noise, index):
    """What a network that knows x_0 would say, its variance the posterior's where that is learnt."""
    said = made.target(x0, noise, index)
    return torch.cat([said, -torch.ones_like(said)], 1) if made.config.variance == "learned-range" else said


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_a_perfect_network_has_no_loss(prediction):
    made = Diffusion(DiffusionConfig(timesteps=20, prediction=prediction))
    x0, noise, index = torch.zeros(20, 1, 4, 4), torch.randn(20, 1, 4, 4), torch.arange(20)
    output = exact_output(made, x0, noise, index)
    terms = made.losses(output, x0, made.add_noise(x0, index, noise), index, noise)
    assert set(terms) == {"mse", "loss"} and not terms["loss"].any()


@pytest.mark.parametrize("threshold", [None, clip, dynamic], ids=["none", "clip", "dynamic"])
@pytest.mark.parametrize("variance", ["learned-range", "fixed-small"])
def test_exact_outputs_of_every_type_predict_the_same(variance, threshold):
    """ε, v and x_0 are three names of one thing: float64, but for 1 / √ᾱ_T, some 10² at 20 timesteps."""
    torch.manual_seed(0)
    x0, noise = 1.5 * torch.rand(20, 1, 4, 4).double() - 0.5, torch.randn(20, 1, 4, 4).double()
    index, predictions = torch.arange(20), []
    for prediction in ("epsilon", "v", "x0"):
        made = Diffusion(DiffusionConfig(timesteps=20, variance=variance, prediction=prediction))
        x_t = made.add_noise(x0, index, noise)
        predictions.append(made.predict(exact_output(made, x0, noise, index), x_t, index, threshold))
    for other in predictions[1:]:
        for one, two in zip(predictions[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    if threshold is None:
        torch.testing.assert_close(predictions[0].x0, x0, rtol=1e-9, atol=1e-9)


def test_v_is_the_velocity_on_the_circle():
    """v = dx_φ/dφ for α = cos φ, σ = sin φ (Salimans & Ho 2022, appendix D)."""
    made = Diffusion(DiffusionConfig(timesteps=20, prediction="v"))
    torch.manual_seed(0)
    x0, noise, index = torch.randn(20, 1, 2, 2).double(), torch.randn(20, 1, 2, 2).double(), torch.arange(20)
    angle = torch.from_numpy(np.arccos(np.sqrt(made.alphas_bar)))[:, None, None, None]
    step = 1e-6
    ahead, behind = (torch.cos(angle + d) * x0 + torch.sin(angle + d) * noise for d in (step, -step))
    velocity = (ahead - behind) / (2 * step)  # central difference: error step² and 1e-16 / step
    torch.testing.assert_close(made.target(x0, noise, index), velocity, rtol=1e-7, atol=1e-8)


def test_the_variational_term_teaches_the_variance_only():
    made = Diffusion(DiffusionConfig(timesteps=20, variance="learned-range"))
    torch.manual_seed(0)
    x0, noise, index = torch.rand(20, 1, 4, 4) * 2 - 1, torch.randn(20, 1, 4, 4), torch.arange(20)
    output = torch.randn(20, 2, 4, 4, requires_grad=True)
    x_t = made.add_noise(x0, index, noise)
    made.losses(output, x0, x_t, index, noise)["vb"].sum().backward()
    assert not output.grad[:, :1].any() and output.grad[:, 1:].any()


def test_the_posterior_itself_has_no_divergence():
    """L_t vanishes where the network gives the true noise and the posterior's variance."""
    made = Diffusion(DiffusionConfig(timesteps=20, variance="learned-range"))
    torch.manual_seed(0)
    x0, noise, index = (
        torch.rand(20, 1, 4, 4).double() * 2 - 1,
        torch.randn(20, 1, 4, 4).double(),
        torch.arange(20),
    )
    output = torch.cat([noise, -torch.ones_like(noise)], 1)
    terms = made.variational_term(output, x0, made.add_noise(x0, index, noise), index, threshold=None)
    assert terms[1:].abs().max() < 1e-9
    # The decoder's 256 masses of one pixel are at most 1: −log₂ is not negative.
    assert terms[0] >= 0


@pytest.mark.parametrize("gamma", [5.0, 1.0])
def test_min_snr_is_one_weighting_whatever_is_predicted(gamma):
    """min(SNR, γ) on the error in x_0: the same estimate of the image costs the same in ε, v and x_0."""
    x0, error, noise = (torch.randn(7, 1, 4, 4, dtype=torch.float64) for _ in range(3))
    index = torch.tensor([0, 10, 200, 400, 600, 800, 990])
    costs = []
    for prediction in ("epsilon", "v", "x0"):
        config = DiffusionConfig(prediction=prediction, weighting="min-snr", min_snr_gamma=gamma)
        process = Diffusion(config)
        x_t = process.add_noise(x0, index, noise)
        guessed = x0 + error
        a = torch.from_numpy(process.alphas_bar)[index][:, None, None, None]
        epsilon = (x_t - a.sqrt() * guessed) / (1 - a).sqrt()
        output = process.target(guessed, epsilon, index)
        costs.append(process.losses(output, x0, x_t, index, noise)["loss"])
        snr = (a / (1 - a)).flatten()
        expected = snr.clamp(max=gamma) * (error**2).flatten(1).mean(1)
        np.testing.assert_allclose(costs[-1], expected, rtol=2e-3)  # the loss is taken in float32
    plain = Diffusion(DiffusionConfig(prediction="v"))
    terms = plain.losses(plain.target(x0, noise, index) + 1, x0, x0, index, noise)
    assert torch.equal(terms["loss"], terms["mse"])


def test_the_weighting_of_edm_is_plain_v_where_pixels_have_deviation_1():
    """SNR + 1 / σ_data² in x_0; errors in v count SNR + 1 there (Karras et al. 2022, table 1)."""
    alphas = Diffusion(DiffusionConfig()).alphas_bar
    config = DiffusionConfig(prediction="v", weighting="edm", sigma_data=1.0)
    np.testing.assert_allclose(weights(config, alphas), 1)
    level = np.sqrt((1 - alphas) / alphas)
    for prediction, of_x0 in (("x0", 1), ("epsilon", level**2)):
        made = weights(DiffusionConfig(prediction=prediction, weighting="edm"), alphas)
        np.testing.assert_allclose(made, of_x0 * (level**2 + 0.5**2) / (level * 0.5) ** 2)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_zero_terminal_snr_leaves_noise_alone_at_the_end(schedule):
    plain = Diffusion(DiffusionConfig(schedule=schedule, prediction="v"))
    shifted = Diffusion(DiffusionConfig(schedule=schedule, prediction="v", zero_terminal_snr=True))
    assert shifted.signal[-1] == 0 < plain.signal[-1] and shifted.noise[-1] == 1
    assert shifted.signal[0] == pytest.approx(plain.signal[0]) and (np.diff(shifted.signal) < 0).all()
    # √ᾱ is shifted and scaled as one: differences keep their proportions.
    ratios = np.diff(shifted.signal) / np.diff(plain.signal)
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)


def test_noise_alone_says_nothing_of_epsilon():
    with pytest.raises(ValueError, match=r"zero_terminal_snr needs diffusion\.prediction=v or x0"):
        DiffusionConfig(zero_terminal_snr=True)
