"""The layers of the denoiser: residual blocks, attention on the image and on the bits, changes of resolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

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


class Context(NamedTuple):
    """What the network needs of the codes: by position of a cross-attention, and what is added to the time embedding.

    ``time`` is (B, width of the time embedding), or ``None`` where the code is not in it.
    """

    attention: dict[str, KeysValues]
    time: Tensor | None = None


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


def normalization(channels: int, groups: int = 32, epsilon: float = 1e-5) -> nn.GroupNorm:
    """Group normalization, in as many groups as divide both ``groups`` and the channels."""
    return nn.GroupNorm(math.gcd(groups, channels), channels, eps=epsilon)


Normalization = Callable[[int], nn.GroupNorm]


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all parameters at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class FreshSiLU(nn.SiLU):
    """SiLU of a tensor that nothing else refers to: in place where no gradient needs its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """Two normalized convolutions around the time embedding, plus a skip connection.

    Arguments:
        channels, out: Channels of the input and of the output.
        width: Width of the time embedding.
        dropout: Rate of the dropout before the second convolution.
        scale_shift: Whether the time embedding scales and shifts, or is added.
        norm: Makes a normalization of so many channels.
        resampling: Halves (means of 2×2) or doubles (nearest neighbors) height and width on the way.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        width: int,
        dropout: float,
        scale_shift: bool,
        norm: Normalization = normalization,
        resampling: Literal["down", "up"] | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift, self.resampling = scale_shift, resampling
        self.in_layers = nn.Sequential(norm(channels), FreshSiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(
            norm(out), FreshSiLU(), nn.Dropout(dropout), zeroed(nn.Conv2d(out, out, 3, padding=1))
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

    def __init__(self, channels: int, heads: int, norm: Normalization = normalization) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *shape = x.shape
        flat = x.reshape(batch, channels, -1)
        qkv = self.qkv(self.norm(flat)).reshape(batch, self.heads, 3 * channels // self.heads, -1)
        qkv = qkv.transpose(2, 3)
        if (
            not torch.is_grad_enabled()
        ):  # the fused kernel wants it; its backward pass costs more than it saves
            qkv = qkv.contiguous()
        q, k, v = qkv.chunk(3, dim=3)
        h = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(batch, channels, -1)
        return (flat + self.proj_out(h)).reshape(batch, channels, *shape)


class CrossAttention(nn.Module):
    """Attention of the image's positions on the tokens of the bits.

    With one token the softmax runs over a single key and is identically 1: the block is then a linear map
    of the token, added at every position, and queries, keys and normalization do not exist.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        token_width: int,
        single: bool,
        norm: Normalization = normalization,
    ) -> None:
        super().__init__()
        self.heads, self.single = heads, single
        self.value = nn.Linear(token_width, channels)
        self.proj_out = zeroed(nn.Linear(channels, channels))
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
        channels: Channels of the input and of the output.
        symmetric: Whether zeros surround the image; else they are at its right and bottom only, as in DDPM.
    """

    def __init__(self, channels: int, symmetric: bool = True) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=int(symmetric))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x if self.symmetric else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbors, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
