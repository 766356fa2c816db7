"""The autoencoder: q(z | x), and the denoiser ε_θ(x_t, t, z) that is conditioned on the code z.

M. Proszewska, N. Malkin, N. Siddharth, 2025, arXiv 2506.00136 (DMZ).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dmzcli.config import Config
from dmzcli.errors import UserError
from dmzcli.model import latents, replay
from dmzcli.model.backbone import Backbone
from dmzcli.model.batch_norm import remeasure
from dmzcli.model.encoder import Encoder, encoder_channels
from dmzcli.model.latents import Tokens
from dmzcli.model.pixels import to_unit
from dmzcli.model.unet import UNet
from dmzcli.system.randomness import derive

BACKBONES: dict[str, type[Backbone]] = {"unet": UNet}


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
        size, colors, model = config.data.size, config.data.channels, config.model
        if size is None or colors is None or model.attention is None or model.cross_attention is None:
            raise ValueError("a model is built from a resolved configuration: call Config.resolved first")
        self.config = config
        self.shape = (colors, size, size)
        self.latent = latents.create(model)
        self.dim = self.latent.dim
        self.encoder = (
            Encoder(colors, size, model.encoder_channels or encoder_channels(size), self.latent.logits_shape)
            if self.dim
            else None
        )
        self.tokens = self.latent.tokens()
        self.unet = BACKBONES[model.backbone].of(config, self.tokens)  # the name is that of weights on disk
        self._replay = replay.Replay()

    @property
    def backbone(self) -> Backbone:
        """The denoising network."""
        return self.unet

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
        """Logits (B, *latent.logits_shape) of images (B, C, H, W) in [−1, 1].

        Raises:
            UserError: The model has no latent.
        """
        return self.latent.hard(x) if self.encoder is None else self.encoder(x)

    def probabilities(self, x: Tensor) -> Tensor:
        """q(z_i = 1 | x) of images (B, C, H, W), float32 (B, D)."""
        return self.latent.probabilities(self.logits(x))

    def bits(self, x: Tensor) -> Tensor:
        """The most probable bits of images (B, C, H, W), uint8 (B, D)."""
        return self.latent.bits(self.logits(x))

    def remeasure(
        self, images: np.ndarray, rows: np.ndarray | None = None, batch_size: int | None = None
    ) -> None:
        """Sets the encoder's batch-norm statistics to its own moments.

        Arguments:
            images: uint8 (N, H, W, C), in memory or mapped: a batch at a time is read.
            rows: Positions of those to measure; by default all.
            batch_size: Images at a time; by default as many as have the pixels of 512 images of 32×32, but 64 to 512:
                within a part, a layer sees the ones before it by the part's own moments.
        """
        if self.encoder is None:
            return
        rows = np.arange(len(images)) if rows is None else rows
        most = batch_size or max(64, min(512, 512 * 32**2 // (self.shape[1] * self.shape[2])))
        # Equal parts: a short one has moments of its own that are far off.
        parts = np.array_split(rows, max(1, -(-len(rows) // most)))
        remeasure(self.encoder, (to_unit(images[part], self.device) for part in parts))

    def context(self, codes: Tensor) -> Any:
        """What the denoiser needs of codes (B, …), once for all steps."""
        return self.backbone.context(cast(Tokens, self.tokens)(codes))

    def bits_context(self, bits: Tensor | None) -> Any:
        """The same from bits (B, D) of 0 and 1; ``None`` for a model without a latent.

        Where bits are nested some may be :data:`~dmzcli.model.latents.ABSENT`.

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
        return self.context(self.latent.codes(bits).to(next(self.parameters()).dtype))

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
        name = cache(lambda: (precision, *(parameter.data_ptr() for parameter in self.backbone.parameters())))

        def network(x_t: Tensor, t: Tensor, context: Any) -> Tensor:
            with torch.autocast(x_t.device.type, torch.bfloat16, enabled=precision == "bf16"):
                return self.backbone(x_t, t, context).to(x_t.dtype)

        def evaluate(x_t: Tensor, t: Tensor) -> Tensor:
            t = (
                t[:1] if t.stride() == (0,) else t
            )  # one number for all images: its embedding is computed once
            if not self.training and replay.wanted(x_t):
                return self._replay(network, name(), (x_t, t), context)
            return network(x_t, t, context)

        return evaluate

    @contextmanager
    def laid_out(self, precision: str) -> Iterator[None]:
        """The faster memory layout for evaluations on a CPU; afterwards it is as before.

        Convolutions of float32 run faster there with the channels last; those of bf16, or of tiny images, do not.
        """
        if self.device.type != "cpu" or precision != "no" or self.shape[-1] < 32:
            yield
            return
        self.backbone.to(memory_format=torch.channels_last)
        try:
            yield
        finally:
            self.backbone.to(memory_format=torch.contiguous_format)

    def codes(self, x0: Tensor, noise: Tensor | None) -> Tensor | None:
        """What the denoiser sees of images in training: codes (B, …), or ``None`` without a latent.

        Arguments:
            x0: Images (B, C, H, W).
            noise: Noise of the relaxation (B, *latent.noise_shape); ``None`` takes the most probable codes.
        """
        if self.dim == 0:
            return None
        logits = self.logits(x0)
        return self.latent.hard(logits) if noise is None else self.latent.relax(logits, noise)

    def forward(
        self, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor | None = None, codes: Tensor | None = None
    ) -> Tensor:
        """One training evaluation: encodes x_0, relaxes its code, and denoises x_t given it.

        Arguments:
            x0: Images (B, C, H, W).
            x_t: Their noisy versions.
            t: Timesteps (B,).
            noise: Noise of the relaxation; ``None`` takes the most probable codes (or the model has none).
            codes: What :meth:`codes` gave for these images, where it was called before.

        Returns:
            The denoiser's output (B, C or 2C, H, W).
        """
        codes = self.codes(x0, noise) if codes is None else codes
        return self.backbone(x_t, t, None if codes is None else self.context(codes))


def build(config: Config) -> Autoencoder:
    """A model as it is initialized, a function of ``training.seed`` alone; global randomness is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("initialisation", config.training.seed))
        return Autoencoder(config)
