r"""The denoiser ε_θ(x_t, t, z): the U-Net of Improved DDPM, with cross-attention on the bits.

Without cross-attention the network and its parameter names are those of ``UNetModel`` in
openai/improved-diffusion (A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models",
2021, arXiv 2102.09672), so that its weights load as they are. Cross-attention sits in a separate table,
``cross``, keyed by the position of the block that it follows; its last layer starts at zero, so that a
network with imported weights first computes what it computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dmzcli.model.layers import (
    AttentionBlock,
    CrossAttention,
    Downsample,
    FreshSiLU,
    KeysValues,
    ResBlock,
    Upsample,
    normalisation,
    timestep_embedding,
    zeroed,
)


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
        symmetric_padding: See :class:`dmzcli.model.layers.Downsample`.
        norm_groups: Groups of the normalisations (or their greatest common divisor with the channels).
        norm_epsilon: Added to the variances that the normalisations divide by.
        frequency_shift, sine_first: See :func:`dmzcli.model.layers.timestep_embedding`.

    Attributes:
        checkpointing: Whether training keeps only what goes from block to block (T. Chen et al., "Training Deep Nets
            with Sublinear Memory Cost", 2016, arXiv 1604.06174).
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
        self.checkpointing = False
        self.embed = partial(timestep_embedding, width=channels, shift=frequency_shift, sine_first=sine_first)
        norm = partial(normalisation, groups=norm_groups, epsilon=norm_epsilon)
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
            norm(current), FreshSiLU(), zeroed(nn.Conv2d(current, out_channels, 3, padding=1))
        )

    def keys_values(self, tokens: Tensor) -> dict[str, KeysValues]:
        """Keys and values of every cross-attention: compute once per image, reuse at every step.

        Arguments:
            tokens: (B, tokens, token_width).
        """
        return {name: cast(CrossAttention, block).keys_values(tokens) for name, block in self.cross.items()}

    def _attend(self, position: str, h: Tensor, bits: dict[str, KeysValues]) -> Tensor:
        return self.cross[position](h, bits[position]) if position in bits else h

    def _run(self, block: nn.Module, *inputs: object) -> Tensor:
        """A block's output; with ``checkpointing``, what is inside it is computed again for the backward pass."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

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
            h = self._attend(f"input_{index}", self._run(stage, h, e), bits)
            skips.append(h)
        first, attention, last = self.middle_block
        h = self._attend("middle", self._run(attention, self._run(first, h, e)), bits)
        h = self._run(last, h, e)
        for index, stage in enumerate(self.output_blocks):
            h = torch.cat([h, skips.pop()], dim=1)
            h = self._run(stage, h, e, partial(self._attend, f"output_{index}", bits=bits))
        return self.out(h)
