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
from typing import Literal, NamedTuple, cast

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


def timestep_embedding(t: Tensor, width: int, shift: float = 0.0, sine_first: bool = False) -> Tensor:
    r"""Sinusoids [cos(tω_k), sin(tω_k)] with ω_k = 10000^{-k / (width/2 − shift)}.

    Arguments:
        t: Timesteps on the training scale, (B,), possibly fractional.
        width: Even width of the embedding.
        shift: 0 as in I-DDPM; 1, as in DDPM, makes the lowest frequency exactly 1/10000.
        sine_first: Whether the sines come first, as in DDPM.

    Returns:
        (B, width) float32.
    """
    half = width // 2
    # In this order of operations, as the published models were trained: a rounding here is multiplied by t.
    k = torch.arange(half, device=t.device, dtype=torch.float32)
    angles = t[:, None].float() * torch.exp(-math.log(10000) * k / (half - shift))
    waves = [angles.cos(), angles.sin()]
    return torch.cat(waves[::-1] if sine_first else waves, dim=1)


def _normalisation(channels: int, groups: int = 32, epsilon: float = 1e-5) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(groups, channels), channels, eps=epsilon)


Normalisation = Callable[[int], nn.GroupNorm]


def _zeroed(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResBlock(nn.Module):
    """Two normalised convolutions around the time embedding, plus a skip connection.

    Arguments:
        channels, out: Channels of the input and of the output.
        width: Of the time embedding.
        dropout: Its rate, before the second convolution.
        scale_shift: Whether the time embedding scales and shifts, or is added.
        norm: Makes a normalisation of so many channels.
        resampling: Halves (means of 2×2) or doubles (nearest neighbours) height and width on the way.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        width: int,
        dropout: float,
        scale_shift: bool,
        norm: Normalisation = _normalisation,
        resampling: Literal["down", "up"] | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift, self.resampling = scale_shift, resampling
        self.in_layers = nn.Sequential(norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(
            norm(out), nn.SiLU(), nn.Dropout(dropout), _zeroed(nn.Conv2d(out, out, 3, padding=1))
        )
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def _resample(self, x: Tensor) -> Tensor:
        if self.resampling == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2, mode="nearest")

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.resampling is None:
            h = self.in_layers(x)
        else:
            h = self.in_layers[2](self._resample(self.in_layers[:2](x)))
            x = self._resample(x)
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

    def __init__(self, channels: int, heads: int, norm: Normalisation = _normalisation) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels)
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

    def __init__(
        self,
        channels: int,
        heads: int,
        token_width: int,
        single: bool,
        norm: Normalisation = _normalisation,
    ) -> None:
        super().__init__()
        self.heads, self.single = heads, single
        self.value = nn.Linear(token_width, channels)
        self.proj_out = _zeroed(nn.Linear(channels, channels))
        if not single:
            self.norm = norm(channels)
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
    """Halves height and width by a strided convolution.

    Arguments:
        channels: Of the input and of the output.
        symmetric: Whether zeros surround the image; else they are at its right and bottom only, as in DDPM.
    """

    def __init__(self, channels: int, symmetric: bool = True) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=int(symmetric))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x if self.symmetric else F.pad(x, (0, 1, 0, 1)))


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
            if isinstance(layer, ResBlock) and layer.resampling == "up":
                return layer(attend(h), e)
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
        head_channels: Channels of one attention head, in place of ``heads``.
        dropout: Dropout rate in the residual blocks.
        scale_shift: Whether the time embedding scales and shifts, or is added.
        token_width: Width of the tokens that carry the bits; ``None`` for no cross-attention at all.
        single_token: Whether there is exactly one token.
        residual_resampling: Whether residual blocks change the resolution, or single convolutions.
        symmetric_padding: See :class:`Downsample`.
        norm_groups: Groups of the normalisations (or their greatest common divisor with the channels).
        norm_epsilon: Added to the variances that the normalisations divide by.
        frequency_shift, sine_first: See :func:`timestep_embedding`.
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
        head_channels: int | None = None,
        residual_resampling: bool = False,
        symmetric_padding: bool = True,
        norm_groups: int = 32,
        norm_epsilon: float = 1e-5,
        frequency_shift: float = 0.0,
        sine_first: bool = False,
    ) -> None:
        super().__init__()
        self.embed = partial(timestep_embedding, width=channels, shift=frequency_shift, sine_first=sine_first)
        norm = partial(_normalisation, groups=norm_groups, epsilon=norm_epsilon)
        width = 4 * channels
        self.time_embed = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        self.input_blocks = nn.ModuleList([Stage([nn.Conv2d(in_channels, channels, 3, padding=1)])])
        self.output_blocks = nn.ModuleList()
        self.cross = nn.ModuleDict()

        def res(inside: int, outside: int, resampling: Literal["down", "up"] | None = None) -> ResBlock:
            return ResBlock(inside, outside, width, dropout, scale_shift, norm, resampling)

        def heads_of(inside: int) -> int:
            return inside // head_channels if head_channels else heads

        def attend(inside: int) -> AttentionBlock:
            return AttentionBlock(inside, heads_of(inside), norm)

        def cross(position: str, inside: int) -> None:
            if token_width is not None:
                self.cross[position] = CrossAttention(
                    inside, heads_of(inside), token_width, single_token, norm
                )

        current, factor, skips = channels, 1, [channels]
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                layers: list[nn.Module] = [res(current, multiplier * channels)]
                current = multiplier * channels
                if factor in attention:
                    layers.append(attend(current))
                if factor in cross_attention:
                    cross(f"input_{len(self.input_blocks)}", current)
                self.input_blocks.append(Stage(layers))
                skips.append(current)
            if level + 1 < len(multipliers):
                down = (
                    res(current, current, "down")
                    if residual_resampling
                    else Downsample(current, symmetric_padding)
                )
                self.input_blocks.append(Stage([down]))
                skips.append(current)
                factor *= 2

        self.middle_block = nn.ModuleList([res(current, current), attend(current), res(current, current)])
        cross("middle", current)

        for level, multiplier in reversed(list(enumerate(multipliers))):
            for block in range(blocks + 1):
                layers = [res(current + skips.pop(), multiplier * channels)]
                current = multiplier * channels
                if factor in attention:
                    layers.append(attend(current))
                if factor in cross_attention:
                    cross(f"output_{len(self.output_blocks)}", current)
                if level and block == blocks:
                    layers.append(res(current, current, "up") if residual_resampling else Upsample(current))
                    factor //= 2
                self.output_blocks.append(Stage(layers))
        self.out = nn.Sequential(
            norm(current), nn.SiLU(), _zeroed(nn.Conv2d(current, out_channels, 3, padding=1))
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
        e = self.time_embed(self.embed(t))
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
