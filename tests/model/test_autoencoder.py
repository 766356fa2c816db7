"""The bottleneck: its relaxation, its gradients, and that every part of every variant learns."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dmzcli.config import Config
from dmzcli.errors import UserError
from dmzcli.model.autoencoder import Autoencoder, build
from dmzcli.model.encoder import Encoder, encoder_channels
from dmzcli.model.latents.tokens import VariableTokens
from dmzcli.training.draws import draw

VARIANTS = {
    "plain": {},
    "latent none": {"model__latent": "none"},
    "straight-through": {"model__estimator": "straight-through"},
    "bernoulli-straight-through": {"model__estimator": "bernoulli-straight-through"},
    "sign": {"model__estimator": "sign"},
    "categorical": {"model__latent": "categorical", "model__values": 4},
    "categorical sign": {
        "model__latent": "categorical",
        "model__estimator": "sign",
        "model__tokens": "per-bit",
    },
    "ordinal": {"model__latent": "ordinal"},
    "ordinal per-bit": {"model__latent": "ordinal", "model__tokens": "per-bit", "model__values": 4},
    "per-bit": {"model__tokens": "per-bit", "model__token_width": 6},
    "per-bit straight-through": {"model__tokens": "per-bit", "model__estimator": "straight-through"},
    "in the time embedding": {"model__conditioning": "time"},
    "in both, per bit": {"model__conditioning": "both", "model__tokens": "per-bit"},
    "in both, at chosen levels": {
        "model__conditioning": "both",
        "model__time_code": (8,),
        "model__condition_middle": False,
    },
    "time embedding, additive": {"model__conditioning": "time", "model__time_conditioning": "additive"},
    "additive": {"model__time_conditioning": "additive"},
    "learned-range": {"diffusion__variance": "learned-range"},
    "fixed-large": {"diffusion__variance": "fixed-large"},
    "no attention": {"model__attention": (), "model__cross_attention": ()},
    "attention everywhere": {"model__attention": (8, 4), "model__cross_attention": (8, 4)},
    "cross elsewhere": {"model__attention": (4,), "model__cross_attention": (8,)},
    "colour": {"data__channels": 3},
    "16 pixels": {"data__size": 16, "data__fit": "pad", "model__attention": (8,)},
    "one bit": {"model__bits": 1},
    "perturbed": {"diffusion__perturbation": 0.1},
    "dropout": {"model__dropout": 0.3},
}


def gumbel_like(logits, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return -torch.log(-torch.log(torch.rand(logits.shape, generator=generator).clamp(1e-9, 1 - 1e-7)))


def loss_of(config, model, step):
    from dmzcli.diffusion.process import Diffusion

    process = Diffusion(config.diffusion)
    size, channels = config.data.size, config.data.channels
    x0 = torch.rand(8, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    numbers = draw(config, 8, torch.device("cpu"), "test", step)
    x_t = process.add_noise(x0, numbers.index, numbers.perturbed)
    output = model(x0, x_t, process.model_timesteps(numbers.index), numbers.codes)
    return process.losses(output, x0, x_t, numbers.index, numbers.noise)["loss"].mean()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_of_every_variant_learns(tiny, name, device):
    """Layers that start at zero hide what lies before them for one step each; after a few, none is dead.

    Zeros in series: a residual block's last convolution, the network's output, and, for the encoder, the
    cross-attention's projection.
    """
    config = tiny(**VARIANTS[name])
    model = build(config).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = dict.fromkeys((parameter for parameter, _ in model.named_parameters()), False)
    for step in range(5):
        loss = loss_of(config, model, step)
        assert torch.isfinite(loss)
        optimiser.zero_grad()
        loss.backward()
        for parameter, value in model.named_parameters():
            assert value.grad is None or torch.isfinite(value.grad).all(), parameter
            seen[parameter] |= value.grad is not None and bool(value.grad.any())
        optimiser.step()
    # A constant added to all keys shifts every logit of a softmax alike: key biases have no gradient by nature.
    # Batch norm takes the mean away again, and with it its convolution's bias.
    idle = {f"encoder.convolutions.{i}.bias" for i in (0, 3, 6, 9)}
    expected = {name for name in seen if not name.endswith("key.bias")} - idle
    assert {name for name in expected if not seen[name]} == set()


@pytest.mark.parametrize("name", ["plain", "latent none", "learned-range"])
def test_shapes(tiny, name):
    config = tiny(**VARIANTS[name])
    model = build(config).eval()
    x, t = torch.rand(3, 1, 8, 8), torch.tensor([0, 10, 49])
    if model.dim:
        assert model.logits(x).shape == (3, 8, 2)
        probabilities = model.probabilities(x)
        assert probabilities.shape == (3, 8) and ((probabilities > 0) & (probabilities < 1)).all()
    out = model(x, x, t, None)
    assert out.shape == (3, 2 if name == "learned-range" else 1, 8, 8)


def test_a_model_without_a_latent_says_so(tiny):
    model = build(tiny(model__latent="none"))
    assert model.encoder is None and model.dim == 0 and model.bits_context(None) is None
    assert not any("cross" in name for name in model.state_dict())
    with pytest.raises(UserError, match=r"^a model with latent 'none' has no bits$"):
        model.logits(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    "bits", [None, torch.zeros(2, 7, dtype=torch.uint8), torch.zeros(2, 9, dtype=torch.uint8)]
)
def test_bits_of_another_length_are_refused(tiny, bits):
    given = "none" if bits is None else str(bits.shape[1])
    with pytest.raises(UserError, match=rf"^the model has 8 bits, but {given} were given$"):
        build(tiny()).bits_context(bits)


def test_a_model_is_built_from_resolved_settings_only():
    with pytest.raises(ValueError, match=r"call Config\.resolved first"):
        Autoencoder(Config())


# The bottleneck -------------------------------------------------------------------------------------------


def test_soft_codes_are_distributions_and_keep_the_gradient(tiny):
    model = build(tiny())
    logits = torch.randn(4, 8, 2, requires_grad=True)
    soft = model.latent.relax(logits, gumbel_like(logits))
    assert (soft > 0).all() and torch.allclose(soft.sum(-1), torch.ones(4, 8), atol=1e-6)
    soft[..., 1].sum().backward()
    assert (logits.grad[..., 1] > 0).all()


def test_straight_through_is_hard_forward_and_soft_backward(tiny):
    hard_model, soft_model = build(tiny(model__estimator="straight-through")), build(tiny())
    logits = torch.randn(4, 8, 2)
    gumbel, weights = gumbel_like(logits), torch.randn(4, 8, 2)
    gradients = []
    for model in (hard_model, soft_model):
        given = logits.clone().requires_grad_()
        codes = model.latent.relax(given, gumbel)
        (codes * weights).sum().backward()
        gradients.append(given.grad)
        if model is hard_model:
            # 1 + p − p rounds within one unit of float32.
            assert torch.allclose(codes, F.one_hot((logits + gumbel).argmax(-1), 2).float(), atol=1e-6)
    assert torch.equal(*gradients) and gradients[0].any()


def test_low_temperature_is_nearly_one_hot(tiny):
    model = build(tiny(model__temperature=1e-3))
    logits = torch.randn(100, 8, 2)
    gumbel = gumbel_like(logits)
    soft = model.latent.relax(logits, gumbel)
    gap = ((logits + gumbel)[..., 0] - (logits + gumbel)[..., 1]).abs()
    # The smaller entry is 1 / (1 + e^{gap / 1e-3}) < 1e-6 where the gap is over 0.014.
    assert (soft.min(-1).values[gap > 0.014] < 1e-6).all()
    assert torch.equal(soft.argmax(-1), (logits + gumbel).argmax(-1))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_argmax_of_the_relaxation_is_a_draw_from_q(tiny, temperature):
    """The Gumbel-max trick, whatever the temperature: a χ² test over 8 bits."""
    model = build(tiny(model__temperature=temperature))
    count = 20_000
    logits = torch.linspace(-2, 2, 16).reshape(1, 8, 2).flip(0).contiguous()
    logits[0, ::2] = logits[0, ::2].flip(-1)
    q = logits.softmax(-1)[0, :, 1].double()
    noise = draw_gumbel(tiny, count)
    ones = model.latent.relax(logits.expand(count, 8, 2), noise).argmax(-1).double().sum(0)
    chi2 = ((ones - count * q) ** 2 / (count * q * (1 - q))).sum().item()
    # χ² of 8 degrees of freedom exceeds 26.1 with probability 0.001; the seed is fixed.
    assert chi2 < 26.1


def draw_gumbel(tiny, count):
    """The noise that training uses."""
    return draw(tiny(), count, torch.device("cpu"), "chi2").codes


def test_evaluation_takes_the_most_probable_bits(tiny):
    model = build(tiny()).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    x0, x_t, t = torch.rand(3, 1, 8, 8), torch.randn(3, 1, 8, 8), torch.tensor([1, 2, 3])
    with torch.no_grad():
        bits = model.bits(x0)
        expected = model.unet(x_t, t, model.bits_context(bits))
        assert torch.equal(model(x0, x_t, t, None), expected)
        flipped = model.unet(x_t, t, model.bits_context(1 - bits))
    assert (flipped - expected).abs().max() > 1e-3  # the bits do reach the output


def test_ties_are_zero(tiny):
    latent = build(tiny(model__bits=4)).latent
    logits = torch.tensor([[[9.0, 0.0], [1.0, 1.0], [1.0, 1.0 + 1e-5], [0.0, 9.0]]])
    assert latent.bits(logits).tolist() == [[0, 0, 1, 1]]


def test_per_bit_tokens_are_expected_embeddings():
    tokens = VariableTokens(5, 2, 7)
    hard = F.one_hot(torch.tensor([[0, 1, 1, 0, 1]]), 2).float()
    expected = tokens.embedding[torch.arange(5), torch.tensor([0, 1, 1, 0, 1])]
    assert torch.allclose(tokens(hard)[0], expected)
    assert torch.allclose(tokens(torch.full((1, 5, 2), 0.5))[0], tokens.embedding.mean(1), atol=1e-6)


@pytest.mark.parametrize("tokens", ["single", "per-bit"])
def test_context_once_is_that_of_every_step(tiny, tokens):
    model = build(tiny(model__tokens=tokens)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    bits = torch.randint(0, 2, (2, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        once = model.bits_context(bits)
        for step in (0, 20, 49):
            x, t = torch.randn(2, 1, 8, 8), torch.full((2,), step)
            assert torch.equal(model.unet(x, t, once), model.unet(x, t, model.bits_context(bits)))


CONDITIONED = {
    "keys and values": {},
    "without the middle": {"model__condition_middle": False},
    "time": {"model__conditioning": "time"},
    "time at 8": {"model__conditioning": "time", "model__time_code": (8,), "model__condition_middle": False},
    "time in the middle": {"model__conditioning": "time", "model__time_code": ()},
    "both": {"model__conditioning": "both", "model__tokens": "per-bit"},
}


def randomized(config):
    model = build(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


@pytest.mark.parametrize("name", CONDITIONED)
def test_codes_reach_the_output_and_are_prepared_once(tiny, name):
    model = randomized(tiny(**CONDITIONED[name]))
    bits = torch.randint(0, 2, (2, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([7, 7])
    with torch.no_grad():
        context = model.bits_context(bits)
        out = model.unet(x, t, context)
        assert (model.unet(x, t, model.bits_context(1 - bits)) - out).abs().max() > 1e-3
        # One number for all images is embedded once, and meets the code of each.
        assert torch.allclose(model.unet(x, t[:1], context), out, atol=1e-5)


def positions(name, tiny):
    model = build(tiny(**CONDITIONED[name]))
    return set(model.unet.cross), model.unet.coded if hasattr(model.unet, "code_embed") else None


def test_codes_are_at_the_chosen_levels(tiny):
    """Of the tiny network at 8 pixels: an input block and a change of resolution at 8, a block at 4; and back."""
    assert positions("keys and values", tiny) == ({"input_3", "middle", "output_0", "output_1"}, None)
    assert positions("without the middle", tiny) == ({"input_3", "output_0", "output_1"}, None)
    everywhere = {*(f"input_{i}" for i in (1, 2, 3)), "middle", *(f"output_{i}" for i in range(4))}
    assert positions("time", tiny) == (set(), everywhere)
    assert positions("time at 8", tiny) == (set(), {"input_1", "input_2", "output_2", "output_3"})
    assert positions("time in the middle", tiny) == (set(), {"middle"})


def test_a_code_that_reaches_the_network_nowhere_is_refused(tiny):
    for conditioning in ("cross-attention", "time", "both"):
        with pytest.raises(UserError, match="the code reaches the U-Net nowhere"):
            tiny(
                model__conditioning=conditioning,
                model__cross_attention=(),
                model__time_code=(),
                model__condition_middle=False,
            )


# The encoder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "channels"),
    [
        (8, (32, 64)),
        (32, (32, 64, 128, 256)),
        (64, (32, 64, 128, 256, 512)),
        (256, (32, 64, 128, 256, 512, 1024, 2048)),
    ],
)
def test_encoder_has_the_papers_channels(size, channels):
    assert encoder_channels(size) == channels


@pytest.mark.parametrize("size", [5, 8, 9])
def test_encoder_takes_any_size(size):
    encoder = Encoder(3, size, encoder_channels(size), (4, 2))
    assert encoder(torch.zeros(2, 3, size, size)).shape == (2, 4, 2)


def test_codes_in_evaluation_do_not_hear_the_batch(tiny):
    model = build(tiny()).eval()
    x = torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        together = model.probabilities(x)
        alone = torch.cat([model.probabilities(x[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(together, alone, atol=1e-6)  # float32 kernels of other batch sizes
