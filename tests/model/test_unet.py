"""The denoiser: openai/improved-diffusion's network to the last bit of rounding, and cross-attention."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from dmzcli.model.layers import CrossAttention, timestep_embedding
from dmzcli.model.unet import UNet, UNetConfig

IDDPM = Path(__file__).parents[1] / "iddpm"


@pytest.fixture(scope="module")
def vectors():
    with np.load(IDDPM / "vectors.npz") as stream:
        return {name: torch.from_numpy(stream[name]) for name in stream.files}


def iddpm_unet(**changes):
    return UNet(UNetConfig(3, 6, 32, (1, 2), 1, (2,), **changes))


def test_published_weights_load_and_compute_the_published_output(vectors, device):
    unet = iddpm_unet()
    unet.load_state_dict(load_file(IDDPM / "unet.safetensors"))  # every name and shape
    with torch.no_grad():
        y = unet.to(device)(vectors["x"].to(device), vectors["t"].to(device)).cpu()
    # float32: about 30 layers of rounding errors of 6e-8 relative to the largest activation.
    torch.testing.assert_close(y, vectors["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("single", [True, False])
def test_fresh_cross_attention_changes_nothing(vectors, single):
    """Its last layer starts at zero: a network with imported weights first computes what it did before."""
    unet = iddpm_unet(
        cross_attention=(1, 2), token_width=12, single_token=single, code_width=12, code_factors=(1, 2)
    )
    state = unet.state_dict()
    imported = load_file(IDDPM / "unet.safetensors")
    unet.load_state_dict(state | imported)
    tokens = torch.randn(2, 1 if single else 5, 12)
    with torch.no_grad():
        bits = unet.context(tokens)
        assert len(bits.attention) == 7  # one block a level down, two a level up, and the middle
        with_bits = unet(vectors["x"], vectors["t"], bits)
        without = unet(vectors["x"], vectors["t"])
    assert torch.equal(with_bits, without)


@pytest.mark.parametrize("single", [True, False])
def test_trained_cross_attention_hears_the_bits(single):
    torch.manual_seed(0)
    unet = UNet(
        UNetConfig(
            1, 1, 8, (1, 2), 1, (2,), cross_attention=(2,), heads=2, token_width=6, single_token=single
        )
    )
    for parameter in unet.parameters():  # the zero layers too
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 40])
    tokens = torch.randn(2, 1 if single else 4, 6)
    with torch.no_grad():
        y = unet(x, t, unet.context(tokens))
        other = tokens.clone()
        other[1] += 1
        changed = unet(x, t, unet.context(other))
        without = unet(x, t)
    assert torch.equal(y[0], changed[0])  # an image hears its own bits only
    assert (y[1] - changed[1]).abs().max() > 1e-3
    assert (y - without).abs().max() > 1e-3


def test_keys_and_values_once_are_those_of_every_step():
    torch.manual_seed(0)
    unet = UNet(
        UNetConfig(1, 1, 8, (1, 2), 1, (2,), cross_attention=(1,), heads=2, token_width=6, single_token=False)
    )
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tokens = torch.randn(3, 4, 6)
    with torch.no_grad():
        cached = unet.context(tokens)
        for step in (0, 7, 30):
            x, t = torch.randn(3, 1, 8, 8), torch.full((3,), step)
            assert torch.equal(unet(x, t, cached), unet(x, t, unet.context(tokens)))


def explicit_attention(block, x, tokens, key, query, norm):
    """softmax(q kᵀ / √d) v per head, written out, for any number of tokens."""
    batch, channels, height, width = x.shape
    heads, d = block.heads, channels // block.heads
    q = query(norm(x).flatten(2).transpose(1, 2)).reshape(batch, -1, heads, d)
    k, v = (layer(tokens).reshape(batch, -1, heads, d) for layer in (key, block.value))
    weights = (torch.einsum("bphd,bthd->bhpt", q, k) / d**0.5).softmax(-1)
    h = torch.einsum("bhpt,bthd->bphd", weights, v).reshape(batch, height * width, channels)
    return x + block.proj_out(h).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("count", [1, 5])
def test_cross_attention_is_softmax_attention(count):
    torch.manual_seed(0)
    block = CrossAttention(8, heads=2, token_width=6, single=False)
    torch.nn.init.normal_(block.proj_out.weight)
    x, tokens = torch.randn(2, 8, 4, 4), torch.randn(2, count, 6)
    with torch.no_grad():
        y = block(x, block.keys_values(tokens))
        expected = explicit_attention(block, x, tokens, block.key, block.query, block.norm)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)  # float32, sums of at most 8 terms


def test_a_single_token_is_attention_over_one_token():
    """Whatever queries and keys are, the softmax over one key is 1: they need not exist."""
    torch.manual_seed(0)
    single = CrossAttention(8, heads=2, token_width=6, single=True)
    torch.nn.init.normal_(single.proj_out.weight)
    x, tokens = torch.randn(2, 8, 4, 4), torch.randn(2, 1, 6)
    key, query = torch.nn.Linear(6, 8), torch.nn.Linear(8, 8)
    with torch.no_grad():
        y = single(x, single.keys_values(tokens))
        expected = explicit_attention(single, x, tokens, key, query, torch.nn.GroupNorm(4, 8))
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    assert not hasattr(single, "query")


@pytest.mark.parametrize("width", [8, 32])
def test_timestep_embedding_is_sinusoids(width):
    t = torch.tensor([0.0, 1.0, 2.5, 999.0])
    made = timestep_embedding(t, width)
    k = np.arange(width // 2)
    angles = t.double().numpy()[:, None] * 10000.0 ** (-2 * k / width)
    expected = np.concatenate([np.cos(angles), np.sin(angles)], 1)
    # An angle of up to 999 in float32 is off by 999 * 6e-8 = 6e-5, and so is its sine.
    np.testing.assert_allclose(made.numpy(), expected, atol=2e-4)
    assert made.dtype == torch.float32


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (2, 1, 3)])
@pytest.mark.parametrize("blocks", [1, 2])
def test_output_has_the_shape_of_the_input(multipliers, blocks):
    unet = UNet(UNetConfig(3, 6, 8, multipliers, blocks, (1,), heads=2))
    assert unet(torch.randn(2, 3, 16, 16), torch.tensor([1, 2])).shape == (2, 6, 16, 16)


def test_images_of_a_batch_do_not_hear_each_other():
    torch.manual_seed(0)
    unet = UNet(UNetConfig(1, 1, 8, (1, 2), 1, (1, 2), heads=2))
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, t = torch.randn(4, 1, 8, 8), torch.tensor([0, 3, 9, 27])
    with torch.no_grad():
        together = unet(x, t)
        alone = torch.cat([unet(x[i : i + 1], t[i : i + 1]) for i in range(4)])
    # Other kernels may serve other batch sizes: float32 rounding over some 20 layers.
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert F.mse_loss(together[0], together[1]) > 1e-6
