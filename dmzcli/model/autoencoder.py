r"""The autoencoder: q(z | x), and the denoiser ε_θ(x_t, t, z) that is conditioned on its bits.

z ∈ {0, 1}^D. The encoder gives two logits a bit; q(z_i = 1 | x) is their softmax. In training a bit is a
Gumbel-softmax pair (π_0, π_1), soft or hard with a straight-through gradient; in evaluation it is one-hot.

References:
    M. Proszewska, N. Malkin, N. Siddharth, 2025, arXiv 2506.00136 (DMZ).
    E. Jang, S. Gu, B. Poole, "Categorical Reparameterization with Gumbel-Softmax", 2017, arXiv 1611.01144.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmzcli.config import Config
from dmzcli.errors import UserError
from dmzcli.model.batch_norm import BatchNorm2d
from dmzcli.model.layers import KeysValues
from dmzcli.model.unet import UNet
from dmzcli.system.randomness import derive


def encoder_channels(size: int) -> tuple[int, ...]:
    """The paper's channels of the stride-2 convolutions, 32, 64, … until 2×2 pixels are left.

    Example:
        >>> encoder_channels(32)
        (32, 64, 128, 256)
    """
    channels: list[int] = []
    while size > 2:
        channels.append(32 << len(channels))
        size = (size + 1) // 2
    return tuple(channels)


class Encoder(nn.Module):
    """Images to logits: stride-2 convolutions with batch norm and leaky ReLU, then one linear layer.

    Arguments:
        in_channels: Channels of the image.
        size: Height and width of the image.
        channels: Of the convolutions, one each.
        bits: D.
    """

    def __init__(self, in_channels: int, size: int, channels: Sequence[int], bits: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in channels:
            layers += [
                nn.Conv2d(in_channels, width, 3, stride=2, padding=1),
                BatchNorm2d(width),
                nn.LeakyReLU(),
            ]
            in_channels, size = width, (size + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Linear(in_channels * size * size, 2 * bits)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, D, 2) of images (B, C, H, W) in [−1, 1]."""
        return self.linear(self.convolutions(x).flatten(1)).unflatten(1, (-1, 2))


class BitTokens(nn.Module):
    """One token per bit: the expectation of a learnt pair of embeddings under (π_0, π_1)."""

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(bits, 2, width))

    def forward(self, pairs: Tensor) -> Tensor:
        return torch.einsum("bdk,dkw->bdw", pairs, self.embedding)


class Autoencoder(nn.Module):
    """Encoder, bottleneck and denoiser of one experiment.

    Arguments:
        config: A resolved configuration: ``data.size`` and ``data.channels`` are set.

    Attributes:
        shape: (C, H, W) of an image.
        dim: D, the number of bits; 0 for a model without a latent.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        size, colours, model = config.data.size, config.data.channels, config.model
        if size is None or colours is None or model.attention is None or model.cross_attention is None:
            raise ValueError("a model is built from a resolved configuration: call Config.resolved first")
        self.config = config
        self.shape = (colours, size, size)
        self.dim = 0 if model.latent == "none" else model.bits
        single = model.tokens == "single"
        self.encoder = (
            Encoder(colours, size, model.encoder_channels or encoder_channels(size), self.dim)
            if self.dim
            else None
        )
        self.tokens = BitTokens(self.dim, model.token_width) if self.dim and not single else None
        self.unet = UNet(
            in_channels=colours,
            out_channels=colours * (2 if config.diffusion.variance == "learned-range" else 1),
            channels=model.channels,
            multipliers=model.multipliers,
            blocks=model.blocks,
            attention=_factors(size, model.attention),
            cross_attention=_factors(size, model.cross_attention) if self.dim else (),
            heads=model.heads,
            dropout=model.dropout,
            scale_shift=model.time_conditioning == "scale-shift",
            token_width=(2 * self.dim if single else model.token_width) if self.dim else None,
            single_token=single,
            head_channels=model.head_channels,
            residual_resampling=model.resampling == "residual",
            symmetric_padding=model.downsampling_padding == "symmetric",
            norm_groups=model.norm_groups,
            norm_epsilon=model.norm_epsilon,
            frequency_shift=model.frequency_shift,
            sine_first=model.time_embedding == "sin-cos",
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def check_images(self, images: np.ndarray, hint: str, subject: str = "the images are") -> None:
        """Raises UserError, with ``hint``, unless images (N, H, W, C) have the model's shape."""
        channels, height, width = self.shape
        if images.shape[1:] != (height, width, channels):
            given = "x".join(map(str, images.shape[1:]))
            raise UserError(f"{subject} {given}, the model takes {height}x{width}x{channels}", hint)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B, D, 2) of images (B, C, H, W) in [−1, 1].

        Raises:
            UserError: The model has no latent.
        """
        if self.encoder is None:
            raise UserError("a model with latent 'none' has no bits", "train one with --latent bernoulli")
        return self.encoder(x)

    def probabilities(self, x: Tensor) -> Tensor:
        """q(z_i = 1 | x), float32 (B, D)."""
        return self.logits(x).float().softmax(-1)[..., 1]

    def bits(self, x: Tensor) -> Tensor:
        """The most probable bits of images (B, C, H, W), uint8 (B, D)."""
        return pick_bits(self.probabilities(x))

    def relax(self, logits: Tensor, gumbel: Tensor) -> Tensor:
        """Training codes: Gumbel-softmax pairs (B, D, 2) for Gumbel(0, 1) noise of the same shape."""
        soft = ((logits + gumbel) / self.config.model.temperature).softmax(-1)
        if self.config.model.estimator == "soft":
            return soft
        hard = F.one_hot(soft.argmax(-1), 2).to(soft.dtype)
        return hard + soft - soft.detach()

    def context(self, pairs: Tensor) -> dict[str, KeysValues]:
        """What the denoiser needs of the bits, once for all steps.

        Arguments:
            pairs: (B, D, 2), one-hot or relaxed.
        """
        tokens = pairs.flatten(1)[:, None] if self.tokens is None else self.tokens(pairs)
        return self.unet.keys_values(tokens)

    def bits_context(self, bits: Tensor | None) -> dict[str, KeysValues] | None:
        """The same from bits (B, D) of 0 and 1; ``None`` for a model without a latent.

        Raises:
            UserError: The bits have another length than the model's.
        """
        if self.dim == 0:
            return None
        if bits is None or bits.shape[-1] != self.dim:
            given = "none" if bits is None else str(bits.shape[-1])
            raise UserError(
                f"the model has {self.dim} bits, but {given} were given", "use bits of this model"
            )
        return self.context(F.one_hot(bits.long(), 2).to(next(self.parameters()).dtype))

    def denoiser(self, bits: Tensor | None, precision: str = "no") -> Callable[[Tensor, Tensor], Tensor]:
        """The network with its bits bound: (x_t (B, C, H, W), t (B,)) → output (B, C or 2C, H, W).

        What it needs of the bits is computed once, here, and serves every step.

        Arguments:
            bits: (B, D) of 0 and 1; ``None`` for a model without a latent.
            precision: ``no`` for float32, or ``bf16`` for the network's evaluations.

        Raises:
            UserError: The bits have another length than the model's.
        """
        context = self.bits_context(bits)

        def evaluate(x_t: Tensor, t: Tensor) -> Tensor:
            t = (
                t[:1] if t.stride() == (0,) else t
            )  # one number for all images: its embedding is computed once
            with torch.autocast(x_t.device.type, torch.bfloat16, enabled=precision == "bf16"):
                return self.unet(x_t, t, context).to(x_t.dtype)

        return evaluate

    @contextmanager
    def laid_out(self, precision: str) -> Iterator[None]:
        """The faster memory layout for evaluations on a CPU; afterwards it is as before.

        Convolutions of float32 run faster there with the channels last; those of bf16, or of tiny images, do not.
        """
        if self.device.type != "cpu" or precision != "no" or self.shape[-1] < 32:
            yield
            return
        self.unet.to(memory_format=torch.channels_last)
        try:
            yield
        finally:
            self.unet.to(memory_format=torch.contiguous_format)

    def codes(self, x0: Tensor, gumbel: Tensor | None) -> Tensor | None:
        """What the denoiser sees of images in training: pairs (B, D, 2), or ``None`` without a latent.

        Arguments:
            x0: Images (B, C, H, W).
            gumbel: Gumbel noise (B, D, 2); ``None`` takes the most probable bits.
        """
        if self.dim == 0:
            return None
        logits = self.logits(x0)
        if gumbel is None:
            return F.one_hot(logits.argmax(-1), 2).to(logits.dtype)
        return self.relax(logits, gumbel)

    def forward(
        self, x0: Tensor, x_t: Tensor, t: Tensor, gumbel: Tensor | None = None, pairs: Tensor | None = None
    ) -> Tensor:
        """One training evaluation: encodes x_0, relaxes its bits, and denoises x_t given them.

        Arguments:
            x0: Images (B, C, H, W).
            x_t: Their noisy versions.
            t: Timesteps (B,).
            gumbel: Gumbel noise (B, D, 2); ``None`` takes the most probable bits (or the model has none).
            pairs: What :meth:`codes` gave for these images, where it was called before.

        Returns:
            The denoiser's output (B, C or 2C, H, W).
        """
        pairs = self.codes(x0, gumbel) if pairs is None else pairs
        return self.unet(x_t, t, None if pairs is None else self.context(pairs))


def build(config: Config) -> Autoencoder:
    """A model at its initialisation, a function of ``training.seed`` alone; global randomness is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("initialisation", config.training.seed))
        return Autoencoder(config)


def _factors(size: int, resolutions: Sequence[int]) -> tuple[int, ...]:
    return tuple(size // resolution for resolution in resolutions)


def pick_bits(probabilities: Tensor) -> Tensor:
    """The most probable bits of q(z | x), uint8; ties (exactly one half) go to 0."""
    return (probabilities > 0.5).to(torch.uint8)
