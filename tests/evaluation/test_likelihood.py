"""The variational bound: closed forms on a Gaussian, and its parts."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.bound import bound_terms, prior_term, strata
from dmzcli.diffusion.process import Diffusion
from dmzcli.errors import UserError
from dmzcli.evaluation.likelihood import bound, running_sum
from dmzcli.model.autoencoder import build
from dmzcli.system.randomness import stream

DEVIATION = 0.25  # ±1 are four deviations away, and every estimate is nearer to 0: nothing is clipped


def exact_denoiser(process):
    """E[ε | x_t] for x_0 ~ N(0, s²)."""
    table = torch.from_numpy(process.alphas_bar)

    def denoise(x, t):
        a = table[t].to(x)[:, None, None, None]
        return (1 - a).sqrt() * x / (a * DEVIATION**2 + 1 - a)

    return denoise


def images(count, side):
    """A Gaussian's pixels at the 256 gray levels, float64 (count, 1, side, side)."""
    drawn = stream("gaussian").standard_normal((count, 1, side, side)) * DEVIATION
    return torch.from_numpy(np.round((drawn + 1) * 127.5).clip(0, 255) / 127.5 - 1)


def streams(count):
    return [stream("likelihood", 0, i) for i in range(count)]


def test_terms_of_a_gaussian_are_the_closed_form():
    """L_t = c_1² Var(x_0 | x_t) / (2 σ̃²), c_1 the posterior mean's weight of x_0, for the fixed small variance.

    Each image's term is a mean over 4,096 pixels of half a χ²₁ times L_t (relative deviation √2): over 8 images five
    standard errors are 5 √(2 / 32,768) = 4 %.
    """
    process = Diffusion(DiffusionConfig(timesteps=20))
    made = bound_terms([process], exact_denoiser(process), images(8, 64), 1, streams(8))[0].mean(0).numpy()
    a = process.alphas_bar
    variance = DEVIATION**2 * (1 - a) / (a * DEVIATION**2 + 1 - a)
    expected = process.posterior_mean_coef1[1:] ** 2 * variance[1:] / (2 * process.posterior_variance[1:])
    np.testing.assert_allclose(made[1:], expected / math.log(2), rtol=0.04)


def test_the_prior_term_is_the_closed_form():
    process = Diffusion(DiffusionConfig(timesteps=20, schedule="linear"))
    a, x0 = process.alphas_bar[-1], torch.full((1, 1, 1, 1), 0.5)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(torch.tensor(math.sqrt(a) * 0.5).double(), math.sqrt(1 - a)),
        torch.distributions.Normal(torch.tensor(0.0).double(), 1.0),
    )
    assert prior_term(process, x0).item() == pytest.approx(expected.item() / math.log(2), rel=1e-9)


def totals(timesteps, every, x0):
    process = Diffusion(DiffusionConfig(timesteps=timesteps))
    made = bound_terms([process], exact_denoiser(process), x0, every, streams(len(x0)))[0].numpy()
    return prior_term(process, x0).numpy() + made @ strata(timesteps, every)[1]


def test_the_bound_of_a_gaussian_falls_to_its_entropy():
    """The entropy of N(0, s²) at gray levels of width 2/255 is log₂(s √(2πe) 255/2), up to the width squared over s².

    Even an exact denoiser's bound is above it: the sum ½ Σ (SNR_{t−1} − SNR_t) Var(x_0 | x_t) is an upper sum of the
    integral that gives the entropy, coarse where the SNR falls to a half in a step, which more timesteps postpone.
    """
    x0 = images(4, 32)
    entropy = math.log2(DEVIATION * math.sqrt(2 * math.pi * math.e) * 255 / 2)
    gaps = [totals(timesteps, 1, x0).mean() - entropy for timesteps in (50, 300, 1000)]
    assert gaps[0] > gaps[1] > gaps[2] > 0


def test_drawing_timesteps_leaves_the_expectation():
    """One of up to ten per image against all: equal within five standard errors of the difference."""
    x0 = images(200, 4)
    difference = totals(100, 10, x0) - totals(100, 1, x0)
    assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(len(x0))


def test_strata_cover_every_timestep_once():
    for timesteps, every in ((1000, 1), (1000, 7), (50, 49), (2, 1)):
        starts, lengths = strata(timesteps, every)
        assert lengths.sum() == timesteps and (lengths >= 1).all() and lengths.max() <= every
        assert starts[0] == 0 and lengths[0] == 1


@pytest.mark.parametrize(
    "changes",
    [{}, {"diffusion__variance": "learned-range"}, {"model__latent": "none"}, {"diffusion__prediction": "v"}],
    ids=["bits", "learned", "none", "v"],
)
def test_an_image_has_its_own_bound_whatever_its_company(tiny, digits, changes):
    model = build(tiny(diffusion__timesteps=10, **changes)).eval()
    whole = bound(model, digits.images[:5], every=3)
    parts = bound(model, digits.images[:5], every=3, batch_size=2)
    # Other batch sizes may take other float32 kernels.
    np.testing.assert_allclose(whole.per_image, parts.per_image, rtol=1e-3)
    assert whole.terms.shape == (5, len(strata(10, 3)[0])) and np.isfinite(whole.terms).all()
    assert (whole.terms[:, 0] >= 0).all() and (whole.terms[:, 1:] >= -1e-6).all()
    assert whole.total == pytest.approx((whole.prior + whole.terms @ whole.lengths).mean())
    assert bound(model, digits.images[:5], every=3, seed=1).total != whole.total


def test_a_prior_adds_what_the_bits_cost(tiny, digits):
    model = build(tiny(diffusion__timesteps=10)).eval()
    free = bound(model, digits.images[:3], every=9)
    paid = bound(
        model, digits.images[:3], every=9, log_prob=lambda codes: np.full(len(codes), -8 * math.log(2))
    )
    assert paid.total - free.total == pytest.approx(8 / 64)  # 8 even bits over 64 dimensions
    with pytest.raises(UserError, match="has no bits for a prior to code"):
        bound(build(tiny(model__latent="none")), digits.images[:3], log_prob=len)


def test_the_bound_with_the_large_variance_is_that_of_a_model_with_it(tiny, digits):
    """Same weights, same draws: what fixed-small costs is known without measuring twice."""
    small = build(tiny(diffusion__timesteps=10)).eval()
    large = build(tiny(diffusion__timesteps=10, diffusion__variance="fixed-large")).eval()
    large.load_state_dict(small.state_dict())
    made = bound(small, digits.images[:4], every=3)
    assert made.large == pytest.approx(bound(large, digits.images[:4], every=3).total, rel=1e-6)
    assert made.large != pytest.approx(made.total, rel=1e-3)
    assert bound(large, digits.images[:4], every=3).large is None


def test_mistakes_are_named(tiny, digits):
    model = build(tiny())
    for every in (0, 50):
        with pytest.raises(UserError, match=rf"^--every {every} does not fit a model of 50 timesteps$"):
            bound(model, digits.images[:3], every=every)
    with pytest.raises(UserError, match=r"^the images are 9x9x1, the model takes 8x8x1$"):
        bound(model, np.zeros((3, 9, 9, 1), np.uint8))
    with pytest.raises(UserError, match=r"^there are no images to measure$"):
        bound(model, digits.images[:0])


# The command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_card_and_plot(dmz, workshop):
    arguments = ("likelihood", "--run", "runs/tiny", "--count", "6", "--every", "10", "--json")
    ended = dmz(*arguments)
    assert ended.code == 0, ended.err
    card = json.loads(Path("runs/tiny/evaluation/likelihood-test.json").read_text())
    assert {name: ended.json[name] for name in card} == card
    assert Path("runs/tiny/evaluation/likelihood-test.png").exists()
    assert (card["images"], card["split"], card["every"], card["prior"]) == (6, "test", 10, None)
    assert card["bounds"] == "-log p(x | z(x))" and card["bits_term"] is None
    paid = dmz(*arguments, "--prior", "uniform").json
    assert paid["bounds"] == "-log p(x)" and paid["bits_term"] == pytest.approx(8 / 64)
    assert paid["bits_per_dim"] - card["bits_per_dim"] == pytest.approx(8 / 64)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--split", "tset"), "unknown split 'tset'"),
        (("--prior", "bernouli"), "there is no prior 'bernouli'"),
        (("--every", "50"), "--every 50 does not fit a model of 50 timesteps"),
    ],
)
def test_the_commands_mistakes(dmz, workshop, arguments, said):
    ended = dmz("likelihood", "--run", "runs/tiny", *arguments)
    assert said in ended.mistake()[0]


@pytest.mark.parametrize("log_prob", [None, lambda codes: np.full(len(codes), -8 * math.log(2))])
def test_the_plotted_sum_begins_at_the_bits_and_ends_at_the_bound(tiny, digits, log_prob):
    made = bound(build(tiny(diffusion__timesteps=10)).eval(), digits.images[:3], every=3, log_prob=log_prob)
    steps, sums = running_sum(made)
    assert (steps[0], steps[-1]) == (0, 10) and len(steps) == len(sums) == len(made.lengths) + 2
    assert sums[0] == (0 if log_prob is None else pytest.approx(8 / 64))
    assert sums[-1] == pytest.approx(made.total, rel=1e-12)
    assert sums[-1] - sums[-2] == pytest.approx(made.prior.mean())
