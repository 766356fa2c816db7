"""The contract of denoising networks: what the autoencoder asks of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from dmzcli.config import Config
from dmzcli.model.latents import Tokens

_SHAPES = 128
"""Shapes of one kind of region that are compiled; by default torch leaves the ninth as it is."""


class Backbone(nn.Module, ABC):
    """ε_θ(x_t, t, z): a network on images of one size that attends to tokens of the code.

    Attributes:
        checkpointing: Whether training keeps only what goes from block to block, and computes the rest again.
    """

    checkpointing: bool = False

    def regions(self) -> Iterator[nn.Module]:
        """The modules that are compiled one by one; the whole network, unless it is made of smaller ones that recur."""
        yield self

    def compile_regions(self) -> None:
        """Compiles :meth:`regions` when they are first called, each kind and shape once.

        Equal regions share their code, so that compiling takes as long as the network has different ones, however deep
        it is. Shapes are not generalized over: a batch of another size compiles anew.
        """
        import torch._dynamo.config  # a second of imports, for those who compile

        limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
        if getattr(torch._dynamo.config, limit) < _SHAPES:
            setattr(torch._dynamo.config, limit, _SHAPES)
        for region in self.regions():
            region.compile(dynamic=False)

    @classmethod
    @abstractmethod
    def of(cls, config: Config, tokens: Tokens | None) -> Backbone:
        """The network of resolved settings; without tokens it is a plain diffusion model's."""

    @abstractmethod
    def context(self, tokens: Tensor) -> Any:
        """What the network needs of tokens (B, T, width): computed once per image, used at every step."""

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, context: Any = None) -> Tensor:
        """Evaluates the network.

        Arguments:
            x: x_t, (B, C, H, W).
            t: Timesteps on the training scale, (B,).
            context: The result of :meth:`context`; ``None`` leaves the code out.

        Returns:
            (B, C, H, W), or (B, 2C, H, W) where the variance is learned.
        """
