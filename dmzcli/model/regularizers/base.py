"""The contract of regularizers: a number that training adds to its loss, of how the codes of a batch are spread."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from dmzcli.model.latents import Latent


class Regularizer(ABC):
    """From 0, where the batch's codes are as they should be, to 1."""

    @abstractmethod
    def __call__(self, latent: Latent, logits: Tensor) -> Tensor:
        """A number, differentiable in the logits.

        Arguments:
            latent: The latent family.
            logits: float32 (B, …) of a batch, or of this process's part of one: it is that of the whole batch.
        """
