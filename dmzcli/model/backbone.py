"""The contract of denoising networks: what the autoencoder asks of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from dmzcli.config import Config
from dmzcli.model.latents import Tokens


class Backbone(nn.Module, ABC):
    """ε_θ(x_t, t, z): a network on images of one size that attends to tokens of the code.

    Attributes:
        checkpointing: Whether training keeps only what goes from block to block, and computes the rest again.
    """

    checkpointing: bool = False

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
