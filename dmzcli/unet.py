r"""The denoiser ε_θ(x_t, t, z): the U-Net of Improved DDPM, with cross-attention on the bits.

Without cross-attention the network and its parameter names are those of ``UNetModel`` in
openai/improved-diffusion (A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models",
2021, arXiv 2102.09672), so that its weights load as they are. Cross-attention sits in a separate table,
``cross``, keyed by the position of the block that it follows; its last layer starts at zero, so that a
network with imported weights first computes what it computed before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeysValues(NamedTuple):
    """What one cross-attention needs of the bits; constant over the denoising steps of an image.

    ``keys`` is ``None`` for a single token, whose attention weight is 1 whatever the query: ``values`` is
    then the block's whole contribution (B, C, 1, 1). Otherwise both are (B, heads, tokens, C / heads).
    """

    keys: Tensor | None
    values: Tensor


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    r"""Sinusoids [cos(tω_k), sin(tω_k)] with ω_k = 10000^{-2k/width}.

    Arguments:
        t: Timesteps on the training scale, (B,), possibly fractional.
        width: Even width of the embedding.

    Returns:
        (B, width) float32.
    """
    half = width // 2
    frequencies = torch.exp(
        torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(10000) / half)
    )
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _normalisation(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, channels), channels)


def _zeroed(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResBlock(nn.Module):
    """Two normalised convolutions around the time embedding, plus a skip connection."""

    def __init__(self, channels: int, out: int, width: int, dropout: float, scale_shift: bool) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.in_layers = nn.Sequential(
            _normalisation(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(
            _normalisation(out), nn.SiLU(), nn.Dropout(dropout), _zeroed(nn.Conv2d(out, out, 3, padding=1))
        )
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers(x)
        e = self.emb_layers(embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = torch.addcmul(shift, self.out_layers[0](h), 1 + scale)
            h = self.out_layers[1:](h)
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Self-attention over positions, heads of consecutive channels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _normalisation(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *shape = x.shape
        flat = x.reshape(batch, channels, -1)
        qkv = self.qkv(self.norm(flat)).reshape(batch, self.heads, 3 * channels // self.heads, -1)
        q, k, v = qkv.transpose(2, 3).chunk(3, dim=3)
        h = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(batch, channels, -1)
        return (flat + self.proj_out(h)).reshape(batch, channels, *shape)


class CrossAttention(nn.Module):
    """Attention of the image's positions on the tokens of the bits.

    With one token the softmax runs over a single key and is identically 1: the block is then a linear map
    of the token, added at every position, and queries, keys and normalisation do not exist.
    """

    def __init__(self, channels: int, heads: int, token_width: int, single: bool) -> None:
        super().__init__()
        self.heads, self.single = heads, single
        self.value = nn.Linear(token_width, channels)
        self.proj_out = _zeroed(nn.Linear(channels, channels))
        if not single:
            self.norm = _normalisation(channels)
            self.query = nn.Linear(channels, channels)
            self.key = nn.Linear(token_width, channels)

    def keys_values(self, tokens: Tensor) -> KeysValues:
        """Projects the tokens (B, tokens, width) once for all steps."""
        if self.single:
            return KeysValues(None, self.proj_out(self.value(tokens[:, 0]))[:, :, None, None])
        split = (*tokens.shape[:2], self.heads, -1)
        return KeysValues(
            self.key(tokens).reshape(split).transpose(1, 2), self.value(tokens).reshape(split).transpose(1, 2)
        )

    def forward(self, x: Tensor, bits: KeysValues) -> Tensor:
        if bits.keys is None:
            return x + bits.values
        batch, channels, height, width = x.shape
        q = self.query(self.norm(x).flatten(2).transpose(1, 2))
        q = q.reshape(batch, height * width, self.heads, -1).transpose(1, 2)
        h = F.scaled_dot_product_attention(q, bits.keys, bits.values).transpose(1, 2).flatten(2)
        return x + self.proj_out(h).transpose(1, 2).reshape(batch, channels, height, width)


class Downsample(nn.Module):
    """Halves height and width by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Stage(nn.ModuleList):
    """The layers at one position of the U-Net: residual block, self-attention, change of resolution."""

    def forward(self, h: Tensor, e: Tensor, attend: Callable[[Tensor], Tensor] = lambda h: h) -> Tensor:
        """Runs the layers; ``attend`` is applied at their resolution, before an upsampling."""
        for layer in self:
            if isinstance(layer, Upsample):
                return layer(attend(h))
            h = layer(h, e) if isinstance(layer, ResBlock) else layer(h)
        return attend(h)


class UNet(nn.Module):
    """The I-DDPM U-Net.

    Arguments:
        in_channels: Channels of x_t.
        out_channels: Channels of the output; twice ``in_channels`` where the variance is learnt.
        channels: Channels of the first level.
        multipliers: Channel multiplier per level; each level but the last halves the resolution.
        blocks: Residual blocks per level (one more per level on the way up).
        attention: Downsampling factors (1, 2, 4, …) whose blocks are followed by self-attention.
        cross_attention: The same for cross-attention; the middle has it whenever ``token_width`` is given.
        heads: Attention heads.
        dropout: Dropout rate in the residual blocks.
        scale_shift: Whether the time embedding scales and shifts, or is added.
        token_width: Width of the tokens that carry the bits; ``None`` for no cross-attention at all.
        single_token: Whether there is exactly one token.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        cross_attention: Sequence[int] = (),
        heads: int = 4,
        dropout: float = 0.0,
        scale_shift: bool = True,
        token_width: int | None = None,
        single_token: bool = True,
    ) -> None:
        super().__init__()
        self.channels = channels
        width = 4 * channels
        self.time_embed = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        self.input_blocks = nn.ModuleList([Stage([nn.Conv2d(in_channels, channels, 3, padding=1)])])
        self.output_blocks = nn.ModuleList()
        self.cross = nn.ModuleDict()

        def res(inside: int, outside: int) -> ResBlock:
            return ResBlock(inside, outside, width, dropout, scale_shift)

        def cross(position: str, inside: int) -> None:
            if token_width is not None:
                self.cross[position] = CrossAttention(inside, heads, token_width, single_token)

        current, factor, skips = channels, 1, [channels]
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                layers: list[nn.Module] = [res(current, multiplier * channels)]
                current = multiplier * channels
                if factor in attention:
                    layers.append(AttentionBlock(current, heads))
                if factor in cross_attention:
                    cross(f"input_{len(self.input_blocks)}", current)
                self.input_blocks.append(Stage(layers))
                skips.append(current)
            if level + 1 < len(multipliers):
                self.input_blocks.append(Stage([Downsample(current)]))
                skips.append(current)
                factor *= 2

        self.middle_block = nn.ModuleList(
            [res(current, current), AttentionBlock(current, heads), res(current, current)]
        )
        cross("middle", current)

        for level, multiplier in reversed(list(enumerate(multipliers))):
            for block in range(blocks + 1):
                layers = [res(current + skips.pop(), multiplier * channels)]
                current = multiplier * channels
                if factor in attention:
                    layers.append(AttentionBlock(current, heads))
                if factor in cross_attention:
                    cross(f"output_{len(self.output_blocks)}", current)
                if level and block == blocks:
                    layers.append(Upsample(current))
                    factor //= 2
                self.output_blocks.append(Stage(layers))
        self.out = nn.Sequential(
            _normalisation(current), nn.SiLU(), _zeroed(nn.Conv2d(current, out_channels, 3, padding=1))
        )

    def keys_values(self, tokens: Tensor) -> dict[str, KeysValues]:
        """Keys and values of every cross-attention: compute once per image, reuse at every step.

        Arguments:
            tokens: (B, tokens, token_width).
        """
        return {name: cast(CrossAttention, block).keys_values(tokens) for name, block in self.cross.items()}

    def _attend(self, position: str, h: Tensor, bits: dict[str, KeysValues]) -> Tensor:
        return self.cross[position](h, bits[position]) if position in bits else h

    def forward(self, x: Tensor, t: Tensor, bits: dict[str, KeysValues] | None = None) -> Tensor:
        """Evaluates the network.

        Arguments:
            x: x_t, (B, in_channels, H, W).
            t: Timesteps on the training scale, (B,).
            bits: From :meth:`keys_values`; ``None`` leaves every cross-attention out.

        Returns:
            (B, out_channels, H, W).
        """
        bits = bits or {}
        e = self.time_embed(timestep_embedding(t, self.channels))
        h, skips = x, []
        for index, stage in enumerate(self.input_blocks):
            h = self._attend(f"input_{index}", stage(h, e), bits)
            skips.append(h)
        first, attention, last = self.middle_block
        h = last(self._attend("middle", attention(first(h, e)), bits), e)
        for index, stage in enumerate(self.output_blocks):
            h = torch.cat([h, skips.pop()], dim=1)
            h = stage(h, e, partial(self._attend, f"output_{index}", bits=bits))
        return self.out(h)
