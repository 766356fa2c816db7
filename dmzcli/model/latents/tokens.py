"""Tokens of discrete codes (B, G, K), points of the simplex of each variable's K values.

A variable that is absent has the code 0, which a linear map would not tell from a bias: it has a state of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dmzcli.model.latents.base import Tokens


def absence(codes: Tensor) -> Tensor:
    """1 for absent variables and 0 for the others, (B, G)."""
    return 1 - codes.sum(-1)


class SingleToken(Tokens):
    """All variables side by side, as one token (the paper's); a nested one has a further number a variable."""

    single = True

    def __init__(self, variables: int, values: int, nested: bool = False) -> None:
        super().__init__()
        self.nested = nested
        self.width = variables * (values + nested)

    def forward(self, codes: Tensor) -> Tensor:
        if self.nested:
            codes = torch.cat([codes, absence(codes)[..., None]], -1)
        return codes.flatten(1)[:, None]


class VariableTokens(Tokens):
    """One token per variable: the expectation of K learned embeddings under its code, or one of its absence."""

    single = False

    def __init__(self, variables: int, values: int, width: int, nested: bool = False) -> None:
        super().__init__()
        self.width = width
        self.embedding = torch.nn.Parameter(torch.randn(variables, values, width))
        self.absent = torch.nn.Parameter(torch.randn(variables, width)) if nested else None

    def forward(self, codes: Tensor) -> Tensor:
        tokens = torch.einsum("bdk,dkw->bdw", codes, self.embedding)
        return tokens if self.absent is None else tokens + absence(codes)[..., None] * self.absent
