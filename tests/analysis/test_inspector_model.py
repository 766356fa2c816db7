"""What the inspector measures with a model: information over time on exact denoisers, stability, gallery, attention."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dmzcli.analysis.inspector import gallery as exhibits
from dmzcli.analysis.inspector.information import curves, grid, integrated
from dmzcli.analysis.inspector.stability import stability
from dmzcli.codes.encode import bits_of
from dmzcli.config import DiffusionConfig
from dmzcli.diffusion.process import Diffusion
from dmzcli.model.autoencoder import build


class Sign:
    """Images of one pixel, black or white with equal probability; the bit says which; denoisers are exact."""

    shape, dim, device = (1, 1, 1), 1, torch.device("cpu")

    def __init__(self, prediction="epsilon"):
        diffusion = DiffusionConfig(timesteps=400, prediction=prediction, variance="fixed-small")
        self.config = SimpleNamespace(diffusion=diffusion)
        self.process = Diffusion(diffusion)

    def bits(self, x):
        return (x[:, :, 0, 0] > 0).to(torch.uint8)

    def denoiser(self, bits):
        signal, noise = (torch.from_numpy(a).float() for a in (self.process.signal, self.process.noise))

        def evaluate(x_t, t):
            a, s = signal[t][:, None, None, None], noise[t][:, None, None, None]
            x0 = torch.tanh(a * x_t / s**2) if bits is None else 2.0 * bits[:, :, None, None] - 1
            epsilon = (x_t - a * x0) / s
            return {"epsilon": epsilon, "x0": x0, "v": a * epsilon - s * x0}[self.config.diffusion.prediction]

        return evaluate


def channel(snr):
    """I(z; √snr (2z − 1) + ε) in nats, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return np.log(2) - (weights * np.log1p(np.exp(-2 * (snr + np.sqrt(snr) * nodes)))).sum() / np.sqrt(
        2 * np.pi
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_exact_denoisers_give_the_information_of_the_channel(prediction):
    """Within the estimate's own interval, widened from 95% to five standard errors, plus the trapezoids' 0.01."""
    images = np.where(np.random.default_rng(0).random((1500, 1, 1, 1)) < 0.5, 0, 255).astype(np.uint8)
    model = Sign(prediction)
    found = curves(model, images, plain=model, points=60, which=[0], share_points=60)
    assert np.all(np.diff(found.log_snr) > 0) and np.allclose(found.losses["true"], 0, atol=1e-3)
    mean, half = found.information("none")
    snr = np.exp(found.log_snr)
    exact = np.array([channel(s) for s in snr])
    assert np.all(np.abs(mean - exact) < half / 1.96 * 5 + 0.01)
    assert mean[-1] == pytest.approx(np.log(2), abs=0.06)
    # With the other image's bit: mutual plus lautum information, E KL = snr, as the bit differs half of the time.
    other, _ = found.information("other")
    low = snr < 20
    assert other[low] == pytest.approx(snr[low], rel=0.15, abs=0.02)
    assert np.all(other - mean > -0.01)
    assert found.share[0] == pytest.approx(other, rel=0.02, abs=0.01)  # the only bit is all the bits


def test_without_a_plain_model_and_a_prior_there_are_two_curves():
    images = np.array([0, 255] * 8, np.uint8).reshape(16, 1, 1, 1)
    found = curves(Sign(), images, points=5)
    assert set(found.losses) == {"true", "other"} and found.share.shape == (0, len(found.timesteps))
    assert set(found.facts()["nats"]) == {"other"}


def test_the_grid_is_even_over_the_log_snr():
    process = Diffusion(DiffusionConfig(timesteps=1000))
    steps = grid(process, 20)
    assert steps[0] == 999 and steps[-1] == 0 and np.all(np.diff(steps) < 0)


def test_the_integral_of_a_constant_is_half_of_it_times_the_way():
    assert integrated(np.full(4, 3.0), np.array([0.0, 1, 3, 7])).tolist() == [0, 1.5, 4.5, 10.5]


def test_stability_is_the_share_of_changed_bits(model, few):
    found = stability(model, few.images[:40], batch_size=16)
    bits, mirrored = bits_of(model, few.images[:40]), bits_of(model, few.images[:40, :, ::-1].copy())
    assert found.changes["mirrored"] == pytest.approx((bits != mirrored).mean(0))
    assert found.changes["noise 0.05"].mean() <= found.changes["noise 0.2"].mean()
    again = stability(model, few.images[:40], batch_size=40)
    assert again.changes["noise 0.2"] == pytest.approx(found.changes["noise 0.2"])


def test_the_gallery_differs_in_the_bit_alone(model, few):
    bits = bits_of(model, few.images[:3])
    one, two = exhibits.gallery(model, bits, [0, 5], steps=3)
    kept = bits[:, 0] == 1
    whole = exhibits.gallery(model, np.where(np.arange(8) == 0, 1, bits).astype(np.uint8), [0], 3)[0]
    assert np.array_equal(one.one, whole.one) and (one.bit, two.bit) == (0, 5)
    # Where the bit is as it was, the image is the plain decoding.
    from dmzcli.diffusion.samplers import create
    from dmzcli.generation.decode import decode

    plain = decode(model, bits, create("ancestral", model.config.diffusion, 3), range(3), 0)
    assert np.array_equal(np.where(kept[:, None, None, None], one.one, one.zero), plain)
    assert one.difference == pytest.approx((one.one.astype(float) - one.zero).mean(0))


@torch.no_grad()
def test_attention_is_the_layers_own(tiny):
    """The hook's weights give the layer's output when its values are averaged by them."""
    model = build(tiny(model__tokens="per-bit")).eval()
    layer = next(iter(model.backbone.cross.values()))
    torch.manual_seed(0)
    for parameter in layer.parameters():  # the last projection starts at zero
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randn(2, 8, layer.value.in_features)
    x, context = torch.randn(2, layer.value.out_features, 4, 4), layer.keys_values(tokens)
    weights = exhibits.attention(layer, x, context)
    assert weights.sum(-1) == pytest.approx(1.0)
    mixed = (weights @ context.values).transpose(1, 2).flatten(2)
    rebuilt = x + layer.proj_out(mixed).transpose(1, 2).reshape(x.shape)
    assert torch.allclose(layer(x, context), rebuilt, atol=1e-5)


def test_attention_maps_are_of_every_layer_and_sum_to_one(tiny):
    model = build(tiny(model__tokens="per-bit")).eval()
    bits = np.random.default_rng(0).integers(0, 2, (3, 8), dtype=np.uint8)
    maps = exhibits.attention_maps(model, bits, steps=2)
    assert set(maps) == set(model.backbone.cross.keys())
    for weights in maps.values():
        assert weights.shape[0] == 8 and weights.sum(0) == pytest.approx(1.0, abs=1e-5)
    assert not any(layer._forward_hooks for layer in model.backbone.cross.values())


def test_bits_of_one_variable_share_its_map(tiny):
    model = build(tiny(model__tokens="per-bit", model__latent="categorical", model__values=4)).eval()
    for weights in exhibits.attention_maps(model, np.eye(8, dtype=np.uint8)[:3], steps=2).values():
        assert weights.shape[0] == 8 and np.array_equal(weights[0::2], weights[1::2])


def test_one_token_for_all_bits_has_no_map(model):
    assert exhibits.attention_maps(model, np.zeros((1, 8), np.uint8), 2) == {}
