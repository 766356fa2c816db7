r"""The denoiser ε_θ(x_t, t, z): the U-Net of Improved DDPM, with cross-attention on the bits.

Without cross-attention the network and its parameter names are those of ``UNetModel`` in
openai/improved-diffusion (A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models",
2021, arXiv 2102.09672), so that its weights load as they are. Cross-attention sits in a separate table,
``cross``, keyed by the position of the block that it follows; the code that is added to the time embedding
passes through ``code_embed``. Their last layers start at zero, so that a network with imported weights first
computes what it computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dmzcli.config import Config
from dmzcli.model.backbone import Backbone
from dmzcli.model.latents import Tokens
from dmzcli.model.layers import (
    AttentionBlock,
    Context,
    CrossAttention,
    Downsample,
    FreshSiLU,
    KeysValues,
    ResBlock,
    Upsample,
    normalization,
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


@dataclass(frozen=True)
class UNetConfig:
    """The U-Net's architecture.

    Attributes:
        in_channels: Channels of x_t.
        out_channels: Channels of the output; twice ``in_channels`` where the variance is learned.
        channels: Channels of the first level.
        multipliers: Channel multiplier per level; each level but the last halves the resolution.
        blocks: Residual blocks per level (one more per level on the way up).
        attention: Downsampling factors (1, 2, 4, …) whose blocks are followed by self-attention.
        cross_attention: The same for cross-attention.
        heads: Attention heads.
        dropout: Dropout rate in the residual blocks.
        scale_shift: Whether the time embedding scales and shifts, or is added.
        token_width: Width of the tokens that carry the bits; ``None`` for no cross-attention at all.
        single_token: Whether there is exactly one token.
        head_channels: Channels of one attention head, in place of ``heads``.
        residual_resampling: Whether residual blocks change the resolution, or single convolutions.
        symmetric_padding: Whether zeros surround the image, see :class:`~dmzcli.model.layers.Downsample`.
        norm_groups: Groups of the normalizations (or their greatest common divisor with the channels).
        norm_epsilon: Added to the variances that the normalizations divide by.
        code_width: Width of the tokens that are added to the time embedding; ``None`` for no such addition.
        code_factors: Downsampling factors whose residual blocks have the code in their time embedding.
        middle: Whether the middle is conditioned, in every way that the others are.
        frequency_shift, sine_first: Form of the sinusoids, see :func:`~dmzcli.model.layers.timestep_embedding`.
    """

    in_channels: int
    out_channels: int
    channels: int
    multipliers: Sequence[int]
    blocks: int
    attention: Sequence[int]
    cross_attention: Sequence[int] = ()
    heads: int = 4
    dropout: float = 0.0
    scale_shift: bool = True
    token_width: int | None = None
    single_token: bool = True
    head_channels: int | None = None
    residual_resampling: bool = False
    symmetric_padding: bool = True
    norm_groups: int = 32
    norm_epsilon: float = 1e-5
    frequency_shift: float = 0.0
    sine_first: bool = False
    code_width: int | None = None
    code_factors: Sequence[int] = ()
    middle: bool = True

    @classmethod
    def of(cls, config: Config, tokens: Tokens | None) -> UNetConfig:
        """The architecture of resolved settings."""
        model, (channels, size, _) = config.model, config.shape

        def factors(resolutions: Sequence[int] | None) -> tuple[int, ...]:
            return tuple(size // resolution for resolution in resolutions or ())

        every = tuple(1 << level for level in range(len(model.multipliers)))
        attending = tokens if model.attends else None
        return cls(
            in_channels=channels,
            out_channels=channels * (2 if config.diffusion.variance == "learned-range" else 1),
            channels=model.channels,
            multipliers=model.multipliers,
            blocks=model.blocks,
            attention=factors(model.attention),
            cross_attention=() if attending is None else factors(model.cross_attention),
            heads=model.heads,
            dropout=model.dropout,
            scale_shift=model.time_conditioning == "scale-shift",
            token_width=None if attending is None else attending.width,
            single_token=tokens is None or tokens.single,
            head_channels=model.head_channels,
            residual_resampling=model.resampling == "residual",
            symmetric_padding=model.downsampling_padding == "symmetric",
            norm_groups=model.norm_groups,
            norm_epsilon=model.norm_epsilon,
            frequency_shift=model.frequency_shift,
            sine_first=model.time_embedding == "sin-cos",
            code_width=tokens.width if tokens is not None and model.times else None,
            code_factors=every if model.time_code is None else factors(model.time_code),
            middle=model.condition_middle,
        )


class UNet(Backbone):
    """The I-DDPM U-Net.

    With ``checkpointing``, training keeps only what goes from block to block (T. Chen et al., "Training Deep Nets with
    Sublinear Memory Cost", 2016, arXiv 1604.06174).
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        channels, width = config.channels, 4 * config.channels
        self.embed = partial(
            timestep_embedding, width=channels, shift=config.frequency_shift, sine_first=config.sine_first
        )
        norm = partial(normalization, groups=config.norm_groups, epsilon=config.norm_epsilon)
        self.time_embed = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        self.input_blocks = nn.ModuleList([Stage([nn.Conv2d(config.in_channels, channels, 3, padding=1)])])
        self.output_blocks = nn.ModuleList()
        self.cross = nn.ModuleDict()
        self.coded: set[str] = {"middle"} if config.middle else set()
        """Positions that have the code in their time embedding."""

        def res(inside: int, outside: int, resampling: Literal["down", "up"] | None = None) -> ResBlock:
            return ResBlock(inside, outside, width, config.dropout, config.scale_shift, norm, resampling)

        def heads_of(inside: int) -> int:
            return inside // config.head_channels if config.head_channels else config.heads

        def attend(inside: int) -> AttentionBlock:
            return AttentionBlock(inside, heads_of(inside), norm)

        def cross(position: str, inside: int) -> None:
            if config.token_width is not None:
                self.cross[position] = CrossAttention(
                    inside, heads_of(inside), config.token_width, config.single_token, norm
                )

        current, factor, skips = channels, 1, [channels]

        def coded(position: str) -> None:
            if factor in config.code_factors:
                self.coded.add(position)

        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                coded(f"input_{len(self.input_blocks)}")
                layers: list[nn.Module] = [res(current, multiplier * channels)]
                current = multiplier * channels
                if factor in config.attention:
                    layers.append(attend(current))
                if factor in config.cross_attention:
                    cross(f"input_{len(self.input_blocks)}", current)
                self.input_blocks.append(Stage(layers))
                skips.append(current)
            if level + 1 < len(config.multipliers):
                coded(f"input_{len(self.input_blocks)}")
                down = (
                    res(current, current, "down")
                    if config.residual_resampling
                    else Downsample(current, config.symmetric_padding)
                )
                self.input_blocks.append(Stage([down]))
                skips.append(current)
                factor *= 2

        self.middle_block = nn.ModuleList([res(current, current), attend(current), res(current, current)])
        if config.middle:
            cross("middle", current)

        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for block in range(config.blocks + 1):
                coded(f"output_{len(self.output_blocks)}")
                layers = [res(current + skips.pop(), multiplier * channels)]
                current = multiplier * channels
                if factor in config.attention:
                    layers.append(attend(current))
                if factor in config.cross_attention:
                    cross(f"output_{len(self.output_blocks)}", current)
                if level and block == config.blocks:
                    layers.append(
                        res(current, current, "up") if config.residual_resampling else Upsample(current)
                    )
                    factor //= 2
                self.output_blocks.append(Stage(layers))
        self.out = nn.Sequential(
            norm(current), FreshSiLU(), zeroed(nn.Conv2d(current, config.out_channels, 3, padding=1))
        )

        if config.code_width is not None:
            self.code_embed = zeroed(nn.Linear(config.code_width, width, bias=False))

    def regions(self) -> Iterator[nn.Module]:
        """Residual blocks, and attention on the image and on the bits: most of the arithmetic, in a dozen shapes."""
        return (
            module
            for module in self.modules()
            if isinstance(module, ResBlock | AttentionBlock | CrossAttention)
        )

    @classmethod
    def of(cls, config: Config, tokens: Tokens | None) -> UNet:
        return cls(UNetConfig.of(config, tokens))

    def context(self, tokens: Tensor) -> Context:
        """Keys and values of every cross-attention, and the code's share of the time embedding.

        Compute it once per image, and use it at every step.

        Arguments:
            tokens: (B, tokens, token_width).
        """
        attention = {
            name: cast(CrossAttention, block).keys_values(tokens) for name, block in self.cross.items()
        }
        return Context(attention, self.code_embed(tokens.sum(1)) if hasattr(self, "code_embed") else None)

    def _attend(self, position: str, h: Tensor, context: dict[str, KeysValues]) -> Tensor:
        return self.cross[position](h, context[position]) if position in context else h

    def _run(self, block: nn.Module, *inputs: object) -> Tensor:
        """A block's output; with ``checkpointing``, what is inside it is computed again for the backward pass."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def forward(self, x: Tensor, t: Tensor, context: Context | None = None) -> Tensor:
        keys, code = ({}, None) if context is None else context
        plain = self.time_embed(self.embed(t))
        coded = plain if code is None else plain + code

        def e(position: str) -> Tensor:
            return coded if position in self.coded else plain

        h, skips = x, []
        for index, stage in enumerate(self.input_blocks):
            position = f"input_{index}"
            h = self._attend(position, self._run(stage, h, e(position)), keys)
            skips.append(h)
        first, attention, last = self.middle_block
        h = self._attend("middle", self._run(attention, self._run(first, h, e("middle"))), keys)
        h = self._run(last, h, e("middle"))
        for index, stage in enumerate(self.output_blocks):
            position = f"output_{index}"
            h = torch.cat([h, skips.pop()], dim=1)
            h = self._run(stage, h, e(position), partial(self._attend, position, context=keys))
        return self.out(h)
