"""Tokens of discrete codes (B, G, K), points of the simplex of each variable's K values."""

from __future__ import annotations

import torch
from torch import Tensor

from dmzcli.model.latents.base import Tokens


class SingleToken(Tokens):
    """All variables side by side, as one token (the paper's)."""

    single = True

    def __init__(self, variables: int, values: int) -> None:
        super().__init__()
        self.width = variables * values

    def forward(self, codes: Tensor) -> Tensor:
        return codes.flatten(1)[:, None]


class VariableTokens(Tokens):
    """One token per variable: the expectation of K learned embeddings under its code."""

    single = False

    def __init__(self, variables: int, values: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.embedding = torch.nn.Parameter(torch.randn(variables, values, width))

    def forward(self, codes: Tensor) -> Tensor:
        return torch.einsum("bdk,dkw->bdw", codes, self.embedding)
